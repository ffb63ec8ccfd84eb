//! The engines: how to start each, and what the reader of docs/engines.md is to know of it.

/// One engine, or one way to set it up that matters for ties.
pub struct Engine {
    /// On the command line and in engines/last.toml.
    pub name: &'static str,
    pub title: &'static str,
    /// Over its column.
    pub column: &'static str,
    pub family: Family,
    pub program: Program,
    /// The file to start from.
    pub example: &'static str,
    /// How to get it.
    pub get: &'static str,
    /// Where the start of its memory comes from.
    pub start: &'static str,
    /// What growing does.
    pub grow: &'static str,
    /// What to mind.
    pub mind: &'static [&'static str],
}

/// Which table of the document.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Wasmtime,
    Rust,
    C,
    JavaScript,
    Python,
}

pub const FAMILIES: [(Family, &str); 5] = [
    (Family::Wasmtime, "Wasmtime, from Rust"),
    (Family::Rust, "Other engines, from Rust"),
    (Family::C, "Engines from C and C++"),
    (Family::JavaScript, "JavaScript engines"),
    (Family::Python, "Python"),
];

/// What answers the suite.
pub enum Program {
    /// This one, started again.
    Rust,
    /// The same, built with the feature `wasmer`: in the longer run.
    RustWasmer,
    /// One of c-examples/engines/Makefile.
    Made(&'static str),
    /// suite.js, on the system's Node.
    Node,
    /// suite.js, on a Node from npm: in the longer run.
    Node24,
}

impl Engine {
    /// Whether it runs when it is asked for by name only.
    pub fn is_long(&self) -> bool {
        matches!(self.program, Program::RustWasmer | Program::Node24)
    }
}

const BULK: &str = "`memory.fill`, `memory.copy`, WASI and host functions write from native code: under a \
                    read-only tie that kills the process. Copy-on-write ties never fault.";
const HANDLER: &str = "A handler of your own for SIGSEGV belongs before the engine's: the engine hands on \
                       what is not its own.";
const INTERPRETER: &str = "Every fault kills the process, and so does a store into a read-only tie. Give a \
                           guest that you do not trust copy-on-write ties.";
const WASMTIME_CRATE: &str = "crate `wasmtime`, features `runtime`, `std`, `cranelift`, and `pooling-allocator` for the pool";
const RUST_WASMTIME_START: &str = "`Memory::data_ptr`, `Memory::data_size`";

pub const ENGINES: &[Engine] = &[
    Engine {
        name: "wasmtime",
        title: "Wasmtime, as it is by default",
        column: "wasmtime",
        family: Family::Wasmtime,
        program: Program::Rust,
        example: "engines/examples/wasmtime.rs",
        get: WASMTIME_CRATE,
        start: RUST_WASMTIME_START,
        grow: "In place: each memory has 4 GiB of addresses. Ties and protections are left alone.",
        mind: &[BULK, HANDLER],
    },
    Engine {
        name: "wasmtime-moving",
        title: "Wasmtime, with memories that move",
        column: "moving",
        family: Family::Wasmtime,
        program: Program::Rust,
        example: "engines/examples/wasmtime.rs",
        get: "`Config::memory_reservation(0)`, and so it is on hosts with few addresses",
        start: RUST_WASMTIME_START,
        grow: "Copies the memory to another place and unmaps the old one. Untie before; else \
               `Space::grown_to` says `Changed`, and the space is to be leaked.",
        mind: &[
            "The copy is native code: a page under `protect(None)` kills the process when the memory grows.",
            BULK,
        ],
    },
    Engine {
        name: "wasmtime-reserved",
        title: "Wasmtime, in memories from `Space::reserve`",
        column: "reserved",
        family: Family::Wasmtime,
        program: Program::Rust,
        example: "engines/examples/wasmtime_reserved.rs",
        get: "`Config::with_host_memory` with a `MemoryCreator`, and `memory_init_cow(false)`",
        start: "`Space::as_ptr`: the memory begins with the space",
        grow: "In place, by `Space::protect` in the creator. The space needs no `grown_to`.",
        mind: &[
            "`memory_init_cow(false)` is needed: Wasmtime lays the image of data segments over maps of its \
             own only. It costs a copy of the data segments at each start.",
            "Tie below the memory's present size: compiled code leaves out bounds checks and counts on \
             what lies behind being inaccessible.",
            BULK,
        ],
    },
    Engine {
        name: "wasmtime-pool",
        title: "Wasmtime's pool",
        column: "pool",
        family: Family::Wasmtime,
        program: Program::Rust,
        example: "engines/examples/wasmtime_pool.rs",
        get: "`InstanceAllocationStrategy::Pooling`",
        start: RUST_WASMTIME_START,
        grow: "In place, within `max_memory_size`.",
        mind: &[
            "`Space::untie_all` before the store is dropped, and where that fails the store is not to be \
             dropped: a tie left in a slot shows the host's pages to the next tenant.",
            "`Covered::Keep`, the default: with `Covered::Discard` zeros take the place of the slot's image \
             of the data segments, for the next tenants too.",
            BULK,
        ],
    },
    Engine {
        name: "wasmtime-keep-resident",
        title: "Wasmtime's pool, with `linear_memory_keep_resident`",
        column: "keep resident",
        family: Family::Wasmtime,
        program: Program::Rust,
        example: "engines/examples/wasmtime_pool.rs",
        get: "`PoolingAllocationConfig::linear_memory_keep_resident`",
        start: RUST_WASMTIME_START,
        grow: "In place, within `max_memory_size`.",
        mind: &[
            "As the pool. A slot is emptied by writing to it: that goes through a read-write tie left \
             behind into the region, and kills the process where one is read-only.",
        ],
    },
    Engine {
        name: "wasmtime-pagemap-scan",
        title: "Wasmtime's pool, with `pagemap_scan`",
        column: "pagemap scan",
        family: Family::Wasmtime,
        program: Program::Rust,
        example: "engines/examples/wasmtime_pool.rs",
        get: "`PoolingAllocationConfig::pagemap_scan` with `linear_memory_keep_resident`; Linux 6.7",
        start: RUST_WASMTIME_START,
        grow: "In place, within `max_memory_size`.",
        mind: &["As the pool."],
    },
    Engine {
        name: "wasmi",
        title: "wasmi",
        column: "wasmi",
        family: Family::Rust,
        program: Program::Rust,
        example: "engines/examples/wasmi.rs",
        get: "crate `wasmi`",
        start: "`Memory::data_ptr`, `Memory::data_size`: from malloc, 16 bytes past a page mostly, so `at` \
                is shifted until the address is a page's; `Space::borrow_heap`",
        grow: "Moves, by realloc. Untie before.",
        mind: &[
            INTERPRETER,
            "A block that is freed while tied makes later allocations write into the region: untie before \
             the store is dropped.",
            "A page under `protect(None)` kills the process when the memory grows.",
        ],
    },
    Engine {
        name: "wasmi-reserved",
        title: "wasmi, in memories from `Space::reserve`",
        column: "wasmi, reserved",
        family: Family::Rust,
        program: Program::Rust,
        example: "engines/examples/wasmi_reserved.rs",
        get: "`Memory::new_static`, and a guest that imports its memory",
        start: "`Space::as_ptr`: the memory begins with the space",
        grow: "In place, up to the bytes that were given.",
        mind: &[
            INTERPRETER,
            "wasmi zeroes a memory by writing when it is made and when it grows: tie afterwards.",
            "The bytes are `&'static mut` for wasmi: the space is dropped after the store, never before.",
        ],
    },
    Engine {
        name: "wasmer",
        title: "Wasmer, Singlepass",
        column: "wasmer",
        family: Family::Rust,
        program: Program::RustWasmer,
        example: "engines/examples/wasmer.rs",
        get: "crate `wasmer`, features `sys`, `singlepass`; it builds for minutes",
        start: "`Memory::view`, then `MemoryView::data_ptr`, `data_size`",
        grow: "In place.",
        mind: &[
            "Its signal handler makes a trap of `memory.fill` into a read-only tie, too.",
            HANDLER,
        ],
    },
    Engine {
        name: "wasmtime-c",
        title: "Wasmtime, from C++",
        column: "wasmtime",
        family: Family::C,
        program: Program::Made("wasmtime"),
        example: "c-examples/engines/wasmtime/wasmtime.cpp",
        get: "PyPI's `wasmtime` has the shared library, crate `wasmtime-c-api-impl` the headers",
        start: "`wasmtime::Memory::data` (`wasmtime_memory_data` in C)",
        grow: "In place: each memory has 4 GiB of addresses. Ties and protections are left alone.",
        mind: &[
            "`wasmtime/conf.h` must define the features that the library was built with, or values are \
             laid out otherwise than it reads them.",
            BULK,
            HANDLER,
        ],
    },
    Engine {
        name: "wasm3",
        title: "wasm3, in memories from `pagetie_space_reserve`",
        column: "wasm3, reserved",
        family: Family::C,
        program: Program::Made("wasm3"),
        example: "c-examples/engines/wasm3/wasm3.c",
        get: "the source in PyPI's `pywasm3`, built with `-Drealloc=wasm3_realloc -Dfree=wasm3_free`",
        start: "`m3_GetMemory`; with the allocator of c-examples/engines/wasm3/memory.c on the second page \
                of a space",
        grow: "In place: that allocator makes more of the space accessible.",
        mind: &[INTERPRETER],
    },
    Engine {
        name: "wasm3-malloc",
        title: "wasm3, with memory from malloc",
        column: "wasm3",
        family: Family::C,
        program: Program::Made("wasm3-malloc"),
        example: "c-examples/engines/wasm3/wasm3.c",
        get: "the source in PyPI's `pywasm3`; the file is built with `-DWASM3_MALLOC`",
        start: "`m3_GetMemory`: 40 bytes behind a page, so `at` is shifted until the address is a page's; \
                `allow_heap`",
        grow: "Moves, by realloc. Untie before.",
        mind: &[
            INTERPRETER,
            "A block that is freed while tied makes later allocations write into the region: untie before \
             the runtime is freed.",
            "A page under `PAGETIE_PROT_NONE` kills the process when the memory grows.",
        ],
    },
    Engine {
        name: "wamr",
        title: "WAMR, in memories from `pagetie_space_reserve`",
        column: "wamr, reserved",
        family: Family::C,
        program: Program::Made("wamr"),
        example: "c-examples/engines/wamr/wamr.c",
        get: "the source in crate `wamr-sys`, an old snapshot, and cmake",
        start: "`pagetie_space_base`: `Alloc_With_Allocator` and c-examples/engines/wamr/memory.c put the \
                memory there",
        grow: "In place: that allocator makes more of the space accessible.",
        mind: &[
            INTERPRETER,
            "With WAMR's own allocator it starts 16 bytes behind a page, and moves.",
        ],
    },
    Engine {
        name: "wasm2c",
        title: "wasm2c",
        column: "wasm2c",
        family: Family::C,
        program: Program::Made("wasm2c"),
        example: "c-examples/engines/wasm2c/wasm2c.c",
        get: "Debian's `wabt`",
        start: "`data` of the exported `wasm_rt_memory_t`",
        grow: "In place, in 8 GiB of addresses.",
        mind: &[
            "Its signal handler makes a trap of every fault in a call, `memory.fill` included.",
        ],
    },
    Engine {
        name: "v8",
        title: "V8, embedded",
        column: "v8",
        family: Family::JavaScript,
        program: Program::Made("v8"),
        example: "c-examples/engines/v8/v8.cpp",
        get: "Debian's `libnode-dev` and `libnode108`",
        start: "`ArrayBuffer::GetBackingStore()->Data()`",
        grow: "In place, and the whole memory is made read-write, ties and all; `grown_to` forbids again what was forbidden.",
        mind: &[
            "`V8::EnableWebAssemblyTrapHandler(true)`, or every fault kills the process.",
            "A read-only tie that growing made writable is a private copy where it is written: the region \
             stays unharmed.",
            BULK,
            "[c-examples/engines/v8/README.md](../c-examples/engines/v8/README.md) says where V8's memories \
             come from, what the sandbox changes, and what a patch would.",
        ],
    },
    Engine {
        name: "v8-reserved",
        title: "V8, in memories from `pagetie_space_reserve`",
        column: "v8, reserved",
        family: Family::JavaScript,
        program: Program::Made("v8-reserved"),
        example: "c-examples/engines/v8/reserved.cpp",
        get: "the same V8, with a `v8::PageAllocator` in the embedder's platform: \
              c-examples/engines/v8/reserved.hpp",
        start: "`ArrayBuffer::GetBackingStore()->Data()`, and the space that the allocator made for it",
        grow: "In place. The allocator makes only the new pages accessible, so ties and protections stay.",
        mind: &[
            "A memory that is collected ends its ties: `is_live` tells.",
            "Not for a V8 with the sandbox: see [c-examples/engines/v8/README.md]\
             (../c-examples/engines/v8/README.md).",
            BULK,
        ],
    },
    Engine {
        name: "spidermonkey",
        title: "SpiderMonkey",
        column: "spidermonkey",
        family: Family::JavaScript,
        program: Program::Made("spidermonkey"),
        example: "c-examples/engines/spidermonkey/spidermonkey.cpp",
        get: "Debian's `libmozjs-102-dev`",
        start: "`JS::GetArrayBufferLengthAndData` of `memory.buffer`",
        grow: "In place. Ties and protections are left alone.",
        mind: &[BULK, HANDLER],
    },
    Engine {
        name: "javascriptcore",
        title: "JavaScriptCore",
        column: "javascriptcore",
        family: Family::JavaScript,
        program: Program::Made("javascriptcore"),
        example: "c-examples/engines/javascriptcore/javascriptcore.cpp",
        get: "Debian's `libjavascriptcoregtk-4.1-dev`",
        start: "`JSObjectGetTypedArrayBytesPtr` of a `Uint8Array` over `memory.buffer`; the buffer itself \
                is refused, and leaves NULL",
        grow: "In place while the memory is one of the process' eight fast ones \
               (`JSC_maxNumWasmFastMemories`); any further one moves.",
        mind: &[
            "A memory that is not fast turns no fault into a trap either: a store into a read-only tie \
             kills the process.",
            BULK,
        ],
    },
    Engine {
        name: "node",
        title: "Node",
        column: "node",
        family: Family::JavaScript,
        program: Program::Node,
        example: "c-examples/engines/node/example.js",
        get: "the system's Node, npm's `node-api-headers` and a C++ compiler: `npm install` in \
              c-examples/engines/node builds the package `pagetie`",
        start: "`napi_get_arraybuffer_info` of `memory.buffer`; of a shared memory \
                `napi_get_typedarray_info` of an array over it",
        grow: "As in V8, and the old `ArrayBuffer` is detached: the package knows memories, not buffers.",
        mind: &[
            BULK,
            "Memories are collected on other threads. A live tie holds its memory, so that none goes while \
             it is tied.",
        ],
    },
    Engine {
        name: "node24",
        title: "Node 24",
        column: "node 24",
        family: Family::JavaScript,
        program: Program::Node24,
        example: "c-examples/engines/node/example.js",
        get: "npm's `node`; the package is the same, and so is its binary",
        start: "as in Node",
        grow: "As in Node.",
        mind: &["As Node."],
    },
    Engine {
        name: "numpy",
        title: "numpy",
        column: "numpy",
        family: Family::Python,
        program: Program::Made("numpy"),
        example: "c-examples/engines/numpy/example.py",
        get: "PyPI's `numpy`",
        start: "`array.ctypes.data`; an array over an `mmap.mmap` starts on a page, one of malloc's 16 bytes \
                behind",
        grow: "Arrays do not grow.",
        mind: &[
            "There is no guest: numpy and Python load and store, and every fault kills the process. Make \
             arrays over read-only ties read-only too, with `array.flags.writeable`.",
        ],
    },
];
