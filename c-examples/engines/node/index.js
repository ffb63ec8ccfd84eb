// pagetie for Node: pages of a Buffer, shown inside WebAssembly memory. README.md says how it is used, and
// addon.cpp, the other half, who keeps what alive.
'use strict';
const { isAnyArrayBuffer, isSharedArrayBuffer } = require('node:util').types;
const native = require('./build/pagetie.node'); // not there? `npm install` builds it

const { MAX_LENGTH } = require('node:buffer').constants;
const WASM_PAGE = 65536;
const ACCESS = ['read-only', 'read-write', 'copy-on-write'];
const PROT = ['none', 'read', 'read-write'];

// These getters tell what an object really is, whatever its prototype and properties say.
const getter = (prototype, name) => {
  const { get } = Object.getOwnPropertyDescriptor(prototype, name);
  return (object) => Reflect.apply(get, object, []);
};
const bufferOfMemory = getter(WebAssembly.Memory.prototype, 'buffer');
const lengthOfArrayBuffer = getter(ArrayBuffer.prototype, 'byteLength');
const lengthOfShared = getter(SharedArrayBuffer.prototype, 'byteLength');
const lengthOf = (buffer) =>
  isSharedArrayBuffer(buffer) ? lengthOfShared(buffer) : lengthOfArrayBuffer(buffer);

const failure = (Type, code, message) => Object.assign(new Type(message), { code: `PAGETIE_${code}` });
const hex = (number) => `0x${number.toString(16)}`;

/// A count of bytes, as a number.
function bytes(what, value) {
  if (typeof value !== 'number' && typeof value !== 'bigint') {
    throw failure(TypeError, 'INVALID', `${what} is ${typeof value}, not a number of bytes`);
  }
  if (!Number.isSafeInteger(Number(value)) || value < 0) {
    throw failure(RangeError, 'OUT_OF_RANGE', `${what} ${value} is not a whole number of bytes from 0 on`);
  }
  return Number(value);
}

function choice(what, names, name) {
  const number = names.indexOf(name);
  if (number < 0) {
    const all = names.map((each) => `'${each}'`).join(', ');
    throw failure(TypeError, 'INVALID', `${what} is none of ${all}: ${String(name)}`);
  }
  return number;
}

/// [offset, offset + length) of something `limit` bytes long; the default is all from `offset` on.
function range(what, offset, length, limit) {
  const from = bytes(`${what}: offset`, offset);
  const len = length === undefined ? Math.max(limit - from, 0) : bytes(`${what}: length`, length);
  if (from + len > limit) {
    throw failure(
      RangeError,
      'OUT_OF_RANGE',
      `${what}: bytes [${hex(from)}, ${hex(from + len)}) end past the end at ${hex(limit)}`,
    );
  }
  return [from, len];
}

// ---- Sources ---------------------------------------------------------------------------------------

const sources = new WeakMap(); // ArrayBuffer of a region's view -> { region, size, open }

function sourceOf(what, value) {
  const source = sources.get(ArrayBuffer.isView(value) ? value.buffer : value);
  if (!source) {
    throw failure(TypeError, 'INVALID', `${what}: the source is none that this package made`);
  }
  if (!source.open) {
    throw failure(Error, 'ENDED', `${what}: the source of ${source.size} bytes was closed`);
  }
  return source;
}

/// Gives the object that a program sees of a region what it needs to be tied.
function asSource({ buffer, region, fd }, object) {
  const source = { region, size: buffer.byteLength, open: true };
  sources.set(buffer, source);
  const method = (value) => ({ value, writable: true, configurable: true });
  return Object.defineProperties(object, {
    tie: method((...place) => tie(source, ...place)),
    close: method(() => void (source.open = false)),
    fd: { value: fd, configurable: true },
  });
}

function create(name, size) {
  if (typeof name !== 'string' || name.includes('\0')) {
    throw failure(TypeError, 'INVALID', 'openMemFDBuffer: the name is not a string, or has a NUL in it');
  }
  const len = bytes('openMemFDBuffer: size', size);
  if (len > MAX_LENGTH) {
    throw failure(
      RangeError,
      'OUT_OF_RANGE',
      `openMemFDBuffer: ${len} bytes are more than the ${MAX_LENGTH} that a Buffer can have`,
    );
  }
  return native.create(name, len);
}

function openMemFDBuffer(name, size) {
  const made = create(name, size);
  return asSource(made, Buffer.from(made.buffer));
}

function openMemFDArrayBuffer(name, size) {
  const made = create(name, size);
  return asSource(made, made.buffer);
}

function openFDBuffer(fd) {
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw failure(TypeError, 'INVALID', `openFDBuffer: ${String(fd)} is not a descriptor`);
  }
  const made = native.open(fd, MAX_LENGTH);
  return asSource(made, Buffer.from(made.buffer));
}

// ---- Targets ---------------------------------------------------------------------------------------

const keepers = new WeakMap(); // WebAssembly.Memory, ArrayBuffer, SharedArrayBuffer -> the native keeper

/// What a program passed as a target: the object that keeps the memory, its ArrayBuffer as it is now, and the
/// bytes of that which are meant.
function targetOf(what, target) {
  try {
    const buffer = bufferOfMemory(target);
    return { key: target, buffer, from: 0, limit: lengthOf(buffer), known: true };
  } catch {
    // It is no WebAssembly.Memory.
  }
  const view = ArrayBuffer.isView(target);
  const buffer = view ? target.buffer : target;
  if (!isAnyArrayBuffer(buffer)) {
    throw failure(
      TypeError,
      'INVALID',
      `${what}: the target is no WebAssembly.Memory, ArrayBuffer, SharedArrayBuffer or view of one`,
    );
  }
  const [from, limit] = view ? [target.byteOffset, target.byteLength] : [0, lengthOf(buffer)];
  return { key: buffer, buffer, from, limit, known: false };
}

/// The keeper of a target, brought up to date with its memory.
function keeperOf(what, { key, buffer, known }) {
  let view;
  try {
    view = new Uint8Array(buffer, 0, 0);
  } catch {
    throw failure(
      Error,
      'CHANGED',
      `${what}: the ArrayBuffer was detached, by memory.grow for example; ` +
        'pass the WebAssembly.Memory instead, or its new buffer to grown() of the tie',
    );
  }
  const length = lengthOf(buffer);
  const shared = isSharedArrayBuffer(buffer);
  let keeper = keepers.get(key);
  if (keeper) {
    native.refresh(keeper, view, length, shared);
  } else {
    if (!known) {
      checkIsWasm(what, buffer, view, length);
    }
    keeper = native.keeper(key, view, length, shared);
    keepers.set(key, keeper);
  }
  return keeper;
}

/// JavaScript does not tell whose memory an ArrayBuffer shows. But V8 checks no 32-bit index: wherever one
/// leads from the start of a memory, addresses are reserved for it. Behind other ArrayBuffers somebody else's
/// bytes come sooner, those of the next block of malloc for example.
function checkIsWasm(what, buffer, view, length) {
  const { start, reserved } = native.outside(view, length);
  const past = start % WASM_PAGE;
  const reasons = [
    sources.has(buffer) && 'it is a source itself',
    (buffer.resizable || buffer.growable) && `it may be resized to ${buffer.maxByteLength} bytes`,
    (length === 0 || length % WASM_PAGE !== 0) && `its length is no multiple of ${WASM_PAGE}`,
    past !== 0 && `it begins ${past} bytes past a multiple of ${WASM_PAGE}`,
    length + reserved < 2 ** 32 + WASM_PAGE && `only ${reserved} bytes behind it are reserved`,
  ].filter(Boolean);
  if (reasons.length > 0) {
    throw failure(
      TypeError,
      'REFUSED_MEMORY',
      `${what}: the ArrayBuffer of ${length} bytes at ${hex(start)} ` +
        `is not WebAssembly memory: ${reasons.join('; ')}. If it is, pass its WebAssembly.Memory`,
    );
  }
}

// ---- Ties ------------------------------------------------------------------------------------------

function tie(source, target, targetOffset = 0, length = undefined, options = undefined) {
  const {
    sourceOffset = 0,
    access = 'read-write',
    covered = 'keep',
  } = typeof options === 'object' && options !== null ? options : { sourceOffset: options };
  const number = choice('tie: access', ACCESS, access);
  const discards = choice('tie: covered', ['keep', 'discard'], covered) === 1;
  if (!source.open) {
    throw failure(Error, 'ENDED', `tie: the source of ${source.size} bytes was closed`);
  }
  const place = targetOf('tie', target);
  const [at, room] = range('tie: target', targetOffset, length, place.limit);
  const [offset, rest] = range('tie: source', sourceOffset, length, source.size);
  const keeper = keeperOf('tie', place);
  const len = Math.min(room, rest);
  const handle = native.tie(keeper, place.from + at, source.region, offset, len, number, discards);
  return untieOf({ handle, source, keeper, key: place.key, at: place.from + at, len, offset, access });
}

/// The function that unties, which is also the tie: it keeps the memory, but is not needed to keep the tie.
function untieOf(tied) {
  const { handle, at, len, access } = tied;
  const check = (what) => {
    if (!native.isLive(handle)) {
      throw failure(Error, 'ENDED', `${what}: the tie of ${len} bytes at ${hex(at)} has ended`);
    }
  };
  /// The keeper as of now. What kind of memory it is was looked at when it was tied.
  const refreshed = (what) => keeperOf(what, { ...targetOf(what, tied.key), known: true });

  const untie = () => {
    if (tied.key === undefined) return;
    const keeper = refreshed('untie');
    try {
      native.untie(keeper, handle);
    } catch (error) {
      if (error.code !== 'PAGETIE_CHANGED') throw error; // it is still tied
      tied.key = tied.keeper = tied.source = undefined; // nothing was touched, and nothing can be
      throw error;
    }
    tied.key = tied.keeper = tied.source = undefined;
  };

  const methods = {
    retie(...args) {
      check('retie');
      const other = typeof args[0] === 'object' && args[0] !== null;
      const source = other ? sourceOf('retie', args.shift()) : tied.source;
      const [offset] = range('retie: source', args[0] ?? 0, len, source.size);
      refreshed('retie');
      native.retie(handle, source.region, offset);
      Object.assign(tied, { source, offset });
    },
    protect(prot, offset = 0, length = undefined) {
      check('protect');
      const number = choice('protect', PROT, prot);
      const [from, bytes] = range('protect', offset, length, len);
      const keeper = refreshed('protect');
      check('protect');
      native.protect(keeper, at + from, bytes, number);
    },
    discard(offset = 0, length = undefined) {
      check('discard');
      const [from, bytes] = range('discard', offset, length, len);
      const keeper = refreshed('discard');
      check('discard');
      native.discard(keeper, at + from, bytes);
    },
    grown(target = tied.key) {
      check('grown');
      const place = targetOf('grown', target);
      const keeper = keeperOf('grown', place);
      if (!native.rehome(tied.keeper, keeper, handle)) {
        throw failure(Error, 'CHANGED', `grown: the tie at ${hex(at)} is in another memory than this`);
      }
      Object.assign(tied, { keeper, key: place.key });
    },
  };
  for (const [name, value] of Object.entries(methods)) {
    Object.defineProperty(untie, name, { value });
  }
  const getters = {
    live: () => native.isLive(handle),
    target: () => tied.key,
    targetOffset: () => at,
    sourceOffset: () => tied.offset,
    byteLength: () => len,
    access: () => access,
  };
  for (const [name, get] of Object.entries(getters)) {
    Object.defineProperty(untie, name, { get });
  }
  return untie;
}

// ---- Verbs on a memory, tied or not ------------------------------------------------------------------

/// The keeper of a target, and a range of it in bytes of the memory.
function part(what, target, offset, length) {
  const place = targetOf(what, target);
  const [at, len] = range(what, offset, length, place.limit);
  return [keeperOf(what, place), place.from + at, len];
}

function protect(target, prot, offset = 0, length = undefined) {
  const number = choice('protect', PROT, prot);
  native.protect(...part('protect', target, offset, length), number);
}

function discard(target, offset = 0, length = undefined) {
  native.discard(...part('discard', target, offset, length));
}

function inspect(target, offset = 0, length = undefined) {
  return native.inspect(...part('inspect', target, offset, length)).map((mapping) => ({
    offset: mapping.at,
    byteLength: mapping.len,
    sourceOffset: mapping.offset,
    inode: mapping.inode,
    protection: PROT[mapping.prot],
    shared: mapping.shared === 1,
  }));
}

module.exports = {
  openMemFDBuffer,
  openMemFDArrayBuffer,
  openFDBuffer,
  protect,
  discard,
  inspect,
  pageSize: native.pageSize,
  version: [native.version >> 16, (native.version >> 8) & 255, native.version & 255].join('.'),
};
// For the tests: how many ties, spaces and keepers there are in this process.
Object.defineProperty(module.exports, '_counts', { value: native.counts });
