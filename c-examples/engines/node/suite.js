// The suite's cases on Node, through this package only. `node suite.js list`, `node suite.js version`, or
// `node suite.js CASE`, which prints the case's outcome in one line; the runner is in engines/.
'use strict';
const { readFileSync } = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { Worker, isMainThread, workerData } = require('node:worker_threads');
const pagetie = require('pagetie');
const { compileGuest } = require('./guest.js');

require('node:v8').setFlagsFromString('--expose-gc');
const collect = require('node:vm').runInNewContext('gc');

const PAGE = pagetie.pageSize;
const AT = 65536; // where ties go: the guest's data segment is there
const LEN = 65536;
const SEGMENTS = { 65536: "the guest's own bytes", 196608: 'and some more of them' };

let module_; // guest.wat, compiled

// ---- What the cases share ---------------------------------------------------------------------------

class Wrong extends Error {}

function equal(what, found, expected) {
  if (found !== expected) throw new Wrong(`${what} is ${found}, not ${expected}`);
}

const open = () => new WebAssembly.Instance(module_).exports;

/// A source of `len` bytes, none of them 0, that differ from page to page and from `seed` to `seed`.
function filled(len, seed = 0) {
  const source = pagetie.openMemFDBuffer('suite', len);
  for (let i = 0; i < len; i++) source[i] = pattern(i, seed);
  return source;
}

const pattern = (i, seed = 0) => 1 + ((i * 7 + Math.floor(i / PAGE) * 13 + seed * 101) % 251);
const sumOf = (bytes) => bytes.reduce((sum, byte) => sum + byte, 0);

function unharmed(source, seed = 0) {
  for (let i = 0; i < source.length; i++) equal(`byte ${i} of the region`, source[i], pattern(i, seed));
}

/// The guest's memory is as the module makes it.
function pristine(guest, what) {
  const expected = Buffer.alloc(guest.memory.buffer.byteLength);
  for (const [at, text] of Object.entries(SEGMENTS)) expected.write(text, Number(at));
  const found = Buffer.from(guest.memory.buffer);
  const first = found.findIndex((byte, i) => byte !== expected[i]);
  if (first >= 0) throw new Wrong(`byte ${first} of ${what} is ${found[first]}, not ${expected[first]}`);
}

function trap(call) {
  try {
    call();
    return false;
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) return true;
    throw error;
  }
}

/// Whether the status is as expected; anything else goes on being thrown.
function fails(code, call) {
  try {
    call();
  } catch (error) {
    if (error.code === code) return;
    throw error;
  }
  throw new Wrong(`no ${code}`);
}

/// What /proc says of the mappings of the suite's memfds: their protections, sorted. The source's own view is
/// one of them (rw-s). pagetie.inspect is no use here, since like every call it first takes note of a growth.
function aliases() {
  const lines = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return lines
    .filter((line) => line.includes('/memfd:suite '))
    .map((line) => line.split(' ')[1])
    .sort();
}

/// Collects until `done` says so.
async function collected(what, done) {
  for (let round = 0; round < 200; round++) {
    collect();
    await sleep(round < 20 ? 1 : 20);
    if (done()) return;
  }
  throw new Wrong(`${what}: not after 200 collections`);
}

// ---- The cases --------------------------------------------------------------------------------------

const cases = {
  'tie-read-only'() {
    const guest = open();
    const source = filled(LEN);
    source.tie(guest.memory, AT, LEN, { access: 'read-only' });
    equal('a byte', guest.load(AT + 5), pattern(5));
    equal('the sum', guest.sum(AT, LEN), sumOf(source));
    source[5] = 77;
    equal('a byte the host wrote', guest.load(AT + 5), 77);
    return 'ok';
  },

  'tie-read-write'() {
    const guest = open();
    const source = filled(LEN);
    source.tie(guest.memory, AT, LEN);
    equal('the sum', guest.sum(AT, LEN), sumOf(source));
    guest.store(AT + PAGE, 200);
    equal('a byte the guest wrote', source[PAGE], 200);
    source[PAGE + 1] = 201;
    equal('a byte the host wrote', guest.load(AT + PAGE + 1), 201);
    return 'ok';
  },

  'tie-copy-on-write'() {
    const guest = open();
    const source = filled(LEN);
    source.tie(guest.memory, AT, LEN, { access: 'copy-on-write' });
    equal('the sum', guest.sum(AT, LEN), sumOf(source));
    guest.store(AT + 3, 255);
    equal('a byte the guest wrote', guest.load(AT + 3), 255);
    unharmed(source);
    return 'ok';
  },

  'same-pages-twice'() {
    const guest = open();
    const source = filled(PAGE);
    source.tie(guest.memory, AT, PAGE);
    source.tie(guest.memory, 2 * AT, PAGE);
    for (let round = 0; round < 100; round++) {
      guest.store(AT + round, round);
      equal('a byte stored at the other place', guest.load(2 * AT + round), round);
      equal('a byte in the region', source[round], round);
    }
    return 'ok';
  },

  'several-regions'() {
    const guest = open();
    const regions = [0, 1, 2].map((seed) => filled(2 * PAGE, seed));
    regions.forEach((source, i) => source.tie(guest.memory, AT + i * 2 * PAGE, 2 * PAGE));
    const all = Buffer.concat(regions);
    equal('the sum of all', guest.sum(AT, 6 * PAGE), sumOf(all));
    for (const seam of [2 * PAGE, 4 * PAGE]) {
      equal('the sum over a seam', guest.sum(AT + seam - 9, 20), sumOf(all.subarray(seam - 9, seam + 11)));
    }
    return 'ok';
  },

  'store-read-only'() {
    const guest = open();
    const source = filled(LEN);
    source.tie(guest.memory, AT, LEN, { access: 'read-only' });
    if (!trap(() => guest.store(AT + 1, 255))) throw new Wrong('the store returned');
    equal('a byte after the trap', guest.load(AT + 1), pattern(1));
    guest.store(AT - 1, 9);
    equal('a byte beside the tie', guest.load(AT - 1), 9);
    unharmed(source);
    return 'trap';
  },

  'load-none'() {
    const guest = open();
    const source = filled(LEN);
    const untie = source.tie(guest.memory, AT, LEN);
    untie.protect('none', PAGE, PAGE);
    equal('a byte before', guest.load(AT + PAGE - 1), pattern(PAGE - 1));
    equal('a byte after', guest.load(AT + 2 * PAGE), pattern(2 * PAGE));
    if (!trap(() => guest.load(AT + PAGE))) throw new Wrong('the load returned');
    untie.protect('read-write', PAGE, PAGE);
    equal('a byte later', guest.load(AT + PAGE), pattern(PAGE));
    return 'trap';
  },

  'store-read'() {
    const guest = open();
    const source = filled(LEN);
    const untie = source.tie(guest.memory, AT, LEN);
    untie.protect('read');
    if (!trap(() => guest.store(AT, 255))) throw new Wrong('the store returned');
    unharmed(source);
    untie.protect('read-write');
    guest.store(AT, 254);
    equal('a byte of the region', source[0], 254);
    return 'trap';
  },

  'fill-copy-on-write'() {
    const guest = open();
    const source = filled(LEN);
    source.tie(guest.memory, AT, LEN, { access: 'copy-on-write' });
    guest.fill(AT, 3, LEN);
    equal('the sum', guest.sum(AT, LEN), 3 * LEN);
    unharmed(source);
    return 'ok';
  },

  'fill-read-only'() {
    const guest = open();
    const source = filled(LEN);
    source.tie(guest.memory, AT, LEN, { access: 'read-only' });
    if (!trap(() => guest.fill(AT, 3, LEN))) throw new Wrong('memory.fill returned');
    unharmed(source);
    return 'trap';
  },

  discard() {
    const guest = open();
    const source = filled(LEN);
    const untie = source.tie(guest.memory, AT, LEN);
    untie.discard(PAGE, PAGE);
    equal('the sum of the page', guest.sum(AT + PAGE, PAGE), 0);
    equal('that in the region', sumOf(source.subarray(PAGE, 2 * PAGE)), 0);
    equal('the byte before', guest.load(AT + PAGE - 1), pattern(PAGE - 1));
    equal('the byte after', source[2 * PAGE], pattern(2 * PAGE));
    untie();

    const other = filled(LEN, 1);
    const copy = other.tie(guest.memory, AT, LEN, { access: 'copy-on-write' });
    guest.fill(AT, 9, LEN);
    copy.discard(0, PAGE);
    equal('the sum of a discarded page', guest.sum(AT, PAGE), sumOf(other.subarray(0, PAGE)));
    equal('the sum of the next', guest.sum(AT + PAGE, PAGE), 9 * PAGE);
    unharmed(other, 1);
    return 'ok';
  },

  retie() {
    const guest = open();
    const source = filled(2 * LEN);
    const other = filled(LEN, 1);
    const untie = source.tie(guest.memory, AT, LEN);
    untie.retie(LEN);
    equal('the sum of the second half', guest.sum(AT, LEN), sumOf(source.subarray(LEN)));
    untie.retie(other);
    equal('the sum of the other', guest.sum(AT, LEN), sumOf(other));
    guest.store(AT, 250);
    equal('a byte of the other', other[0], 250);
    unharmed(source);
    return 'ok';
  },

  grow() {
    const guest = open();
    const source = filled(LEN);
    const untie = source.tie(guest.memory, AT, LEN);
    equal('the pages it had', guest.grow(1), 4);
    try {
      untie.grown();
    } catch (error) {
      if (error.code !== 'PAGETIE_CHANGED') throw error;
      unharmed(source);
      return 'moved';
    }
    equal('the sum', guest.sum(AT, LEN), sumOf(source));
    guest.store(AT, 199);
    equal('a byte of the region', source[0], 199);
    source[1] = 198;
    equal('a byte of the guest', guest.load(AT + 1), 198);
    source.tie(guest.memory, 4 * AT, LEN); // in the new page
    equal('the sum in the new page', guest.sum(4 * AT, LEN), sumOf(source));
    untie.protect('read');
    const [mapping] = pagetie.inspect(guest.memory, AT, LEN);
    equal('the protection', mapping.protection, 'read');
    return 'in place';
  },

  'grow-read-only'() {
    const guest = open();
    const source = filled(LEN);
    const untie = source.tie(guest.memory, AT, LEN, { access: 'read-only' });
    equal('the mappings', aliases().join(' '), 'r--p rw-s');
    equal('the pages it had', guest.grow(1), 4);
    const after = aliases().join(' ');
    const trapped = trap(() => guest.store(AT, 255));
    unharmed(source);
    if (trapped) return 'trap';
    equal('the mappings after a store', after, 'rw-p rw-s');
    untie.grown();
    equal('the mappings after grown()', aliases().join(' '), 'r--p rw-s');
    if (!trap(() => guest.store(AT, 254))) throw new Wrong('a store after grown() returned');
    untie.retie(0); // the page that the store made private is the region's again
    equal('the sum', guest.sum(AT, LEN), sumOf(source));
    return 're-protected: store stayed private';
  },

  'grow-protected'() {
    const guest = open();
    pagetie.protect(guest.memory, 'none', AT, PAGE);
    if (!trap(() => guest.load(AT))) throw new Wrong('a load returned');
    equal('the pages it had', guest.grow(1), 4);
    const still = trap(() => guest.load(AT));
    pagetie.inspect(guest.memory, AT, PAGE); // takes note of the growth, as all calls do
    if (!trap(() => guest.load(AT))) throw new Wrong('a load after the growth was noted returned');
    pagetie.protect(guest.memory, 'read', AT, PAGE);
    equal('a byte', guest.load(AT), SEGMENTS[AT].charCodeAt(0));
    if (!trap(() => guest.store(AT, 1))) throw new Wrong('a store returned');
    return still ? 'still protected' : 're-protected';
  },

  'untie-restores'() {
    const guest = open();
    const source = filled(LEN);
    for (let i = 100; i < LEN; i++) guest.store(AT + i, pattern(i, 3));
    const before = Buffer.from(new Uint8Array(guest.memory.buffer));
    const untie = source.tie(guest.memory, AT, LEN);
    guest.fill(AT, 1, LEN);
    untie();
    equal('difference to the memory before', before.compare(Buffer.from(guest.memory.buffer)), 0);
    equal('the segment', before.toString('latin1', AT, AT + SEGMENTS[AT].length), SEGMENTS[AT]);
    guest.store(AT, 88);
    equal('a byte the guest wrote', guest.load(AT), 88);
    equal('the region', sumOf(source), LEN);
    return 'ok';
  },

  async 'closed-while-tied'() {
    const source = filled(LEN);
    let dead = false;
    const registry = new FinalizationRegistry(() => (dead = true));
    (() => {
      const guest = open();
      registry.register(guest.memory);
      source.tie(guest.memory, AT, LEN);
      guest.store(AT, pattern(0));
    })();
    await collected('the memory', () => dead && pagetie._counts().spaces === 0 && aliases().length === 1);
    unharmed(source);
    for (let i = 0; i < 20; i++) {
      const guest = open();
      pristine(guest, 'the next memory');
      guest.store(AT, 5);
      equal('a byte', guest.load(AT), 5);
      source.tie(guest.memory, AT, LEN, { access: 'read-only' });
      equal('the sum', guest.sum(AT, LEN), sumOf(source));
    }
    unharmed(source);
    return 'ok';
  },

  async 'next-tenant'() {
    const source = filled(LEN);
    let dead = 0;
    const registry = new FinalizationRegistry(() => (dead += 1));
    for (let round = 0; round < 20; round++) {
      (() => {
        const guest = open();
        pristine(guest, 'a memory');
        registry.register(guest.memory);
        const untie = source.tie(guest.memory, AT, LEN);
        equal('the sum', guest.sum(AT, LEN), sumOf(source));
        guest.store(AT, pattern(0));
        untie();
        pristine(guest, 'the memory after it');
      })();
      await collected('the memory', () => dead > round);
    }
    pristine(open(), 'the next memory');
    unharmed(source);
    return 'ok';
  },

  // One memfd; each thread has a region of it and a guest.
  async 'two-threads'() {
    const source = filled(4 * LEN);
    const run = () =>
      new Promise((resolve, reject) => {
        const worker = new Worker(__filename, { workerData: { module: module_, fd: source.fd } });
        worker.on('message', resolve).on('error', reject);
      });
    for (const outcome of await Promise.all([run(), run()])) equal('a thread', outcome, 'ok');
    unharmed(source);
    return 'ok';
  },

  async 'thousand-instances'() {
    const source = filled(LEN);
    const expected = sumOf(source);
    const registry = new FinalizationRegistry(() => (open_ -= 1));
    let open_ = 0;
    const one = () => {
      const guest = open();
      guest.fill(AT, 1, LEN); // so that it takes memory to keep this
      registry.register(guest.memory);
      open_ += 1;
      const untie = source.tie(guest.memory, AT, LEN);
      equal('the sum', guest.sum(AT, LEN), expected);
      untie();
    };
    const state = async () => {
      await collected('the memories', () => open_ === 0 && pagetie._counts().spaces === 0);
      const status = readFileSync('/proc/self/status', 'utf8');
      const kib = (name) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)[1]);
      const mappings = readFileSync('/proc/self/maps', 'utf8').split('\n').length;
      return { mappings, kib: kib('RssAnon') + kib('RssShmem') };
    };
    let early;
    for (let i = 1; i <= 1000; i++) {
      one();
      if (i % 10 === 0) {
        collect();
        await sleep(0);
      }
      if (i === 50) early = await state();
    }
    const late = await state();
    console.error(`after 50: ${JSON.stringify(early)}, after 1,000: ${JSON.stringify(late)}`);
    // One mapping or 64 KiB kept by each instance would be 950 mappings, or 59 MiB.
    if (late.mappings > early.mappings + 100)
      throw new Wrong(`${early.mappings} mappings became ${late.mappings}`);
    if (late.kib > early.kib + 20 * 1024) throw new Wrong(`${early.kib} KiB became ${late.kib}`);
    return 'ok';
  },
};

/// What each of the two threads does.
function thread({ module, fd }) {
  module_ = module;
  const guest = open();
  const source = pagetie.openFDBuffer(fd);
  for (let round = 0; round < 200; round++) {
    const [first, second] = [round % 4, (round + 1) % 4];
    const untie = source.tie(guest.memory, AT, LEN, { sourceOffset: first * LEN, access: 'read-only' });
    equal('the sum', guest.sum(AT, LEN), sumOf(source.subarray(first * LEN, (first + 1) * LEN)));
    untie.retie(second * LEN);
    equal(
      'the sum after retie',
      guest.sum(AT, LEN),
      sumOf(source.subarray(second * LEN, (second + 1) * LEN)),
    );
    untie();
    equal('the guest', guest.load(AT), SEGMENTS[AT].charCodeAt(0));
  }
  return 'ok';
}

// ---- The protocol -----------------------------------------------------------------------------------

async function outcome(body) {
  try {
    return await body();
  } catch (error) {
    console.error(error);
    if (error instanceof Wrong) return `wrong: ${error.message}`;
    return `error: ${error.code ?? error.name}: ${error.message}`;
  }
}

async function main(name) {
  if (name === 'list') {
    console.log(Object.keys(cases).join('\n'));
  } else if (name === 'version') {
    console.log(`Node ${process.versions.node} (V8 ${process.versions.v8})`);
  } else if (Object.hasOwn(cases, name)) {
    module_ = await compileGuest();
    console.log(await outcome(cases[name]));
  } else {
    console.error('usage: node suite.js list | version | CASE');
    process.exitCode = 2;
  }
}

if (isMainThread) {
  main(process.argv[2]);
} else {
  outcome(() => thread(workerData)).then((line) =>
    require('node:worker_threads').parentPort.postMessage(line),
  );
}
