//! The cases, and what is expected to come of them: the usual outcome, and where an engine differs, why.

/// One case of the suite. What it does exactly is in suite.rs, suite.c, suite.js and suite.py.
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    /// What comes of it in most engines.
    pub usual: &'static str,
    pub differ: &'static [Differ],
}

/// Engines in which something else comes of it.
pub struct Differ {
    pub outcome: &'static str,
    pub engines: &'static [&'static str],
    pub why: &'static str,
}

impl Case {
    /// What is expected of an engine, and why where that is not the usual.
    pub fn expected(&self, engine: &str) -> (&'static str, Option<&'static Differ>) {
        let differ = self.differ.iter().find(|differ| differ.engines.contains(&engine));
        (differ.map_or(self.usual, |differ| differ.outcome), differ)
    }
}

/// Whether an outcome is the expected one: what follows a colon are numbers and details.
pub fn is_as_expected(outcome: &str, expected: &str) -> bool {
    kind(outcome) == expected
}

/// An outcome without its details.
pub fn kind(outcome: &str) -> &str {
    outcome.split(':').next().unwrap_or(outcome)
}

/// The words that outcomes are made of.
pub const WORDS: [(&str, &str); 15] = [
    ("ok", "what the case says, seen by the guest and by the host"),
    ("trap", "the access is a trap of the guest; it is called again, and nothing was harmed"),
    ("SIGSEGV", "the access kills the process"),
    ("in place", "the memory grew where it was; ties live on"),
    ("moved", "the memory is elsewhere; `grown_to` says `Changed`, and the region was not harmed"),
    ("still protected", "growing left the protection alone"),
    (
        "re-protected",
        "growing made all of the memory read-write, the protected page too, until `grown_to` forbade it again",
    ),
    ("the next tenant sees it", "a new guest finds the host's bytes in its memory"),
    ("the next tenant writes it", "what the next guest stores arrives in the host's region"),
    ("the engine overwrites the region", "what resets the memory writes through the tie"),
    ("not offered", "the engine has no such thing"),
    ("wrong", "a check failed; never expected"),
    ("error", "pagetie refused; never expected"),
    ("hung", "killed after the time limit; never expected"),
    ("failed", "the program ended otherwise; never expected"),
];

pub const CASES: [Case; 20] = [
    Case {
        name: "tie-read-only",
        about: "64 KiB of a region, read-only at 64 KiB: the guest sees the host's bytes, also those written later",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "tie-read-write",
        about: "the host sees the guest's stores, and the guest the host's writes",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "tie-copy-on-write",
        about: "the guest sees its own stores, the region does not",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "same-pages-twice",
        about: "one page tied at two places: a store at the one is loaded at the other",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "several-regions",
        about: "three regions side by side: the guest sums over the seams",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "store-read-only",
        about: "the guest stores into a read-only tie",
        usual: "trap",
        differ: &[Differ { outcome: "SIGSEGV", engines: NATIVE, why: INTERPRETER }],
    },
    Case {
        name: "load-none",
        about: "the guest loads from a tied page under protect(None)",
        usual: "trap",
        differ: &[Differ { outcome: "SIGSEGV", engines: NATIVE, why: INTERPRETER }],
    },
    Case {
        name: "store-read",
        about: "the guest stores into a read-write tie under protect(Read); allowed again, it may",
        usual: "trap",
        differ: &[Differ { outcome: "SIGSEGV", engines: NATIVE, why: INTERPRETER }],
    },
    Case {
        name: "fill-copy-on-write",
        about: "memory.fill over a copy-on-write tie: the region keeps its bytes",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "fill-read-only",
        about: "memory.fill into a read-only tie: in most engines native code stores",
        usual: "SIGSEGV",
        differ: &[Differ {
            outcome: "trap",
            engines: &["wasmer", "wasm2c"],
            why: "its signal handler takes every fault in the memory, whoever's code it is",
        }],
    },
    Case {
        name: "discard",
        about: "of a read-write tie the region's bytes go; of a copy-on-write tie the region's come back",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "retie",
        about: "a tie shows another part of its region, then another region",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "grow",
        about: "memory.grow under a live tie, then grown_to; where the tie lives on, protect works on it",
        usual: "in place",
        differ: &[
            Differ {
                outcome: "moved",
                engines: &["wasmtime-moving", "wasmi", "wasm3-malloc"],
                why: "the memory is copied to a larger place: untie before growing",
            },
            Differ { outcome: "not offered", engines: &["numpy"], why: ARRAY },
        ],
    },
    Case {
        name: "grow-read-only",
        about: "memory.grow under a live read-only tie, then the guest stores there",
        usual: "trap",
        differ: &[
            Differ {
                outcome: "SIGSEGV",
                engines: &["wasmi-reserved", "wasm3", "wamr"],
                why: INTERPRETER,
            },
            Differ {
                outcome: "moved",
                engines: &["wasmtime-moving", "wasmi", "wasm3-malloc"],
                why: "the new place has the region's bytes as a copy",
            },
            Differ {
                outcome: "re-protected",
                engines: &["v8", "node", "node24"],
                why: "V8 makes the whole memory read-write until grown_to; the store is private, as in a copy-on-write tie",
            },
            Differ { outcome: "not offered", engines: &["numpy"], why: ARRAY },
        ],
    },
    Case {
        name: "grow-protected",
        about: "memory.grow with an untied page under protect(None), which grown_to forbids again",
        usual: "still protected",
        differ: &[
            Differ {
                outcome: "SIGSEGV",
                engines: &["wasmtime-moving", "wasmi", "wasm3-malloc"],
                why: "the engine copies its memory, and reads the page",
            },
            Differ {
                outcome: "re-protected",
                engines: &["v8", "node", "node24"],
                why: "V8 makes the whole memory read-write, until grown_to",
            },
            Differ { outcome: "not offered", engines: &["numpy"], why: ARRAY },
        ],
    },
    Case {
        name: "untie-restores",
        about: "untie brings the guest's own bytes back, its data segments included",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "closed-while-tied",
        about: "the guest is closed under a live tie, the space is leaked, and another guest starts",
        usual: "ok",
        differ: &[
            Differ {
                outcome: "the next tenant sees it",
                engines: &["wasmtime-pool", "wasmtime-pagemap-scan"],
                why: "emptying a slot with madvise leaves shared pages alone: untie_all before the store goes",
            },
            Differ {
                outcome: "the engine overwrites the region",
                engines: &["wasmtime-keep-resident"],
                why: "a slot is emptied by writing to it: untie_all before the store goes",
            },
            Differ {
                outcome: "the next tenant writes it",
                engines: &["wasm3-malloc"],
                why: "malloc hands the freed block out again, tie and all: untie_all before it is freed",
            },
        ],
    },
    Case {
        name: "next-tenant",
        about: "after untie_all the guest is closed; the next ones see none of it and have their data segments",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "two-threads",
        about: "two threads with a guest each tie, retie and untie pages of one region, 200 times",
        usual: "ok",
        differ: &[],
    },
    Case {
        name: "thousand-instances",
        about: "1,000 guests one after another, tied and closed: mappings and memory do not grow",
        usual: "ok",
        differ: &[],
    },
];

/// Engines whose guests load and store through native code.
const NATIVE: &[&str] = &["wasmi", "wasmi-reserved", "wasm3", "wasm3-malloc", "wamr", "numpy"];
const INTERPRETER: &str =
    "an interpreter is native code, and a fault in it is nobody's trap: use copy-on-write ties";
const ARRAY: &str = "an array does not grow";
