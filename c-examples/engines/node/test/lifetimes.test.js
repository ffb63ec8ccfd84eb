// Who keeps what alive, under the garbage collector, in workers, and at the end of them. --expose-gc
'use strict';
const assert = require('node:assert');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { Worker } = require('node:worker_threads');
const { test } = require('node:test');
const pagetie = require('pagetie');
const native = require('../build/pagetie.node');

const page = pagetie.pageSize;
const unit = Math.max(page, 65536);
const newMemory = (options) =>
  new WebAssembly.Memory({ initial: (4 * unit) / 65536, maximum: 1024, ...options });
const newSource = (name, value = 7, pages = 1) => pagetie.openMemFDBuffer(name, pages * page).fill(value);
const byte = (memory, at) => new Uint8Array(memory.buffer)[at];
const start = (memory) => native.outside(new Uint8Array(memory.buffer, 0, 0), 0).start;
const mapped = (name) => fs.readFileSync('/proc/self/maps', 'utf8').split(`/memfd:${name} `).length - 1;

/// Collects until `done` says so. What is dropped may still be on the stack for a while.
async function collected(what, done) {
  for (let round = 0; round < 200; round++) {
    gc();
    await sleep(round < 20 ? 1 : 20);
    if (done()) return;
  }
  assert.fail(`${what}: not after 200 collections; ${JSON.stringify(pagetie._counts())}`);
}
const nothingLeft = () =>
  collected('all', () => Object.values(pagetie._counts()).every((count) => count === 0));

/// Runs a program in a process of its own: it must end by itself, with `status`.
function run(program, status = 0) {
  const options = { cwd: __dirname, encoding: 'utf8', timeout: 60_000 };
  const child = spawnSync(process.execPath, ['--expose-gc', '-e', `'use strict';${program}`], options);
  assert.deepEqual([child.signal, child.status], [null, status], child.stderr);
  return child.stdout;
}

test('a Buffer is collected while it is tied', async () => {
  const memory = newMemory();
  const collectedSources = [];
  const registry = new FinalizationRegistry((name) => collectedSources.push(name));
  const untie = (() => {
    const source = newSource('dropped', 7, 2).fill(8, page);
    registry.register(source.buffer, 'dropped');
    return source.tie(memory, 0, page);
  })();
  await collected('the buffer', () => collectedSources.length === 1);
  assert.equal(byte(memory, 0), 7);
  new Uint8Array(memory.buffer)[0] = 9;
  untie.retie(page);
  assert.equal(byte(memory, 0), 8);
  untie.retie(0);
  assert.equal(byte(memory, 0), 9);
  untie();
  assert.equal(byte(memory, 0), 0);
  await collected('the region', () => mapped('dropped') === 0); // although the function is still there
  assert(!untie.live);
});

test('a tie stays when the function that unties is dropped', async () => {
  const memory = newMemory();
  let dropped = false;
  const registry = new FinalizationRegistry(() => (dropped = true));
  (() => registry.register(newSource('stays').tie(memory, 0, page)))();
  await collected('the function', () => dropped);
  assert.equal(byte(memory, 0), 7);
  assert.deepEqual(pagetie._counts(), { ties: 1, spaces: 1, keepers: 1 });
});

test('the function that unties keeps the memory', async () => {
  await nothingLeft();
  const kept = ['memory', 'buffer'].map((what) => {
    const memory = newMemory();
    const untie = newSource(`keeps ${what}`).tie(what === 'memory' ? memory : memory.buffer, page, page);
    return { untie, weak: new WeakRef(memory), at: start(memory) };
  });
  for (let i = 0; i < 20; i++) {
    gc();
    await sleep(1);
  }
  kept.forEach(({ untie, weak, at }) => {
    const buffer = untie.target.buffer ?? untie.target;
    assert.equal(new Uint8Array(buffer)[page], 7);
    assert.equal(start({ buffer }), at);
    assert.equal(start(weak.deref()), at);
    untie();
    assert.equal(new Uint8Array(buffer)[page], 0);
  });
  await nothingLeft(); // although the functions are still there
  assert(kept.every(({ untie }) => !untie.live));
});

// A detached ArrayBuffer is nothing to hold a memory by, but for a link that V8 has from the one to the other.
test('the function that unties keeps the memory also by an ArrayBuffer that is detached', async () => {
  const grown = () => {
    const memory = newMemory();
    const untie = newSource('detached').tie(memory.buffer, page, page);
    memory.grow(1);
    return { untie, at: start(memory) };
  };
  const { untie, at } = grown();
  for (let i = 0; i < 20; i++) {
    gc();
    await sleep(1);
  }
  assert.equal(untie.target.byteLength, 0);
  assert.equal(mapped('detached'), 2); // V8 has not unmapped the memory
  const alive = fs
    .readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .some((line) => {
      const [from, to] = line
        .split(' ')[0]
        .split('-')
        .map((each) => parseInt(each, 16));
      return from <= at && at < to && line.split(' ')[1] === 'rw-p';
    });
  assert(alive);
  assert.throws(untie, { code: 'PAGETIE_CHANGED' });
});

test('all of it dies in one collection', async () => {
  await nothingLeft();
  (() => {
    for (let i = 0; i < 50; i++) {
      const memory = newMemory({ shared: i % 2 === 0 });
      const source = newSource('dies');
      memory.untie = source.tie(memory, 0, page);
      memory.untie2 = source.tie(memory.buffer, page, page);
    }
  })();
  await nothingLeft();
  await collected('the mappings', () => mapped('dies') === 0);
});

// Finalizers run later than the collection: V8 gives the addresses of the dead to the next memory first.
test('memories come and go faster than finalizers run', { timeout: 120_000 }, async (t) => {
  const source = newSource('recycled');
  const starts = new Set();
  let again = 0;
  const one = (i) => {
    const memory = newMemory({ shared: i % 3 === 0 });
    again += starts.has(start(memory)) ? 1 : 0;
    starts.add(start(memory));
    assert.equal(byte(memory, 0), 0);
    source.tie(i % 2 === 0 ? memory : memory.buffer, 0, page);
    assert.equal(byte(memory, 0), 7);
    new Uint8Array(memory.buffer)[1] = 7;
  };
  for (let i = 0; i < 300; i++) {
    one(i);
    if (i % 2 === 0) gc(); // and no await
  }
  t.diagnostic(`${again} of 300 memories had the address of one before`);
  assert(source.every((each) => each === 7));
  await nothingLeft();
  await collected('the aliases', () => mapped('recycled') === 1);
});

test('10,000 ties and unties', { timeout: 120_000 }, async () => {
  const memory = newMemory();
  const descriptors = () => fs.readdirSync('/proc/self/fd').length;
  const mappings = () => fs.readFileSync('/proc/self/maps', 'utf8').split('\n').length;
  const accesses = ['read-only', 'read-write', 'copy-on-write'];
  const source = newSource('many', 7, 4);
  const round = (i) => {
    const from = i % 10 === 0 ? newSource('one of many') : source;
    const target = i % 2 === 0 ? memory : new Uint8Array(memory.buffer);
    const untie = from.tie(target, (i % 4) * page, page, { access: accesses[i % 3] });
    assert.equal(byte(memory, (i % 4) * page), 7);
    if (i % 7 === 0) untie.retie(0);
    untie();
    assert.equal(byte(memory, (i % 4) * page), 0);
  };
  const before = {};
  for (let i = 0; i < 10_000; i++) {
    round(i);
    if (i % 500 === 0) {
      gc();
      await sleep(0);
    }
    if (i === 1000) {
      await collected('regions', () => mapped('one of many') === 0);
      Object.assign(before, { descriptors: descriptors(), mappings: mappings() });
    }
  }
  await collected('regions', () => mapped('one of many') === 0);
  assert.equal(pagetie._counts().ties, 0);
  assert(
    descriptors() <= before.descriptors + 5,
    `${before.descriptors} descriptors became ${descriptors()}`,
  );
  assert(mappings() <= before.mappings + 100, `${before.mappings} mappings became ${mappings()}`);
});

test('an ArrayBuffer that was tied into is collected after its memory grew', async () => {
  await nothingLeft();
  const memory = newMemory();
  (() => newSource('left behind').tie(memory.buffer, 0, page))();
  assert.equal(pagetie._counts().ties, 1);
  memory.grow(1);
  await nothingLeft();
  assert.equal(byte(memory, 0), 7); // for as long as the memory lives
  const untie = newSource('over it', 8).tie(memory, 0, page);
  assert.equal(byte(memory, 0), 8);
  untie();
  assert.equal(byte(memory, 0), 7);
});

test('this module twice in one thread', () => {
  const file = require.resolve('pagetie');
  const cached = require.cache[file];
  delete require.cache[file];
  const second = require(file);
  require.cache[file] = cached;
  assert.notEqual(second, pagetie);
  const memory = newMemory();
  const untie = newSource('first').tie(memory, 0, page);
  const source = second.openMemFDBuffer('second', page);
  assert.throws(() => source.tie(memory, 0, page), { code: 'PAGETIE_OVERLAP' });
  source.tie(memory, page, page)();
  untie();
  source.tie(memory, 0, page)();
});

// ---- Workers ----------------------------------------------------------------------------------------

const inWorker = (body, workerData) =>
  new Worker(
    `'use strict';
     const { parentPort, workerData } = require('node:worker_threads');
     const pagetie = require(${JSON.stringify(require.resolve('pagetie'))});
     const page = pagetie.pageSize;
     (${body})(workerData, parentPort);`,
    { eval: true, workerData },
  );
const ended = (worker) =>
  new Promise((resolve, reject) => {
    const messages = [];
    worker.on('message', (message) => messages.push(message));
    worker.on('error', reject);
    worker.on('exit', () => resolve(messages));
  });

test('workers tie into one shared memory, and one region', async () => {
  await nothingLeft();
  const memory = newMemory({ shared: true });
  const source = newSource('shared', 7, 8);
  const body = ({ memory, fd, index }, port) => {
    const source = pagetie.openFDBuffer(fd);
    const bytes = new Uint8Array(memory.buffer);
    for (let round = 0; round < 300; round++) {
      const target = round % 2 === 0 ? memory : memory.buffer;
      const untie = source.tie(target, index * page, page, { sourceOffset: index * page });
      if (bytes[index * page] !== 7) throw new Error(`round ${round}: ${bytes[index * page]}`);
      bytes[index * page + 1] = round % 256;
      untie.retie((index + 4) * page);
      untie();
      if (bytes[index * page] !== 0) throw new Error(`round ${round}: not untied`);
    }
    port.postMessage(pagetie._counts());
  };
  const mine = source.tie(memory, 3 * page, page);
  const workers = [0, 1, 2].map((index) => ended(inWorker(body, { memory, fd: source.fd, index })));
  for (const [counts] of await Promise.all(workers)) assert.equal(counts.spaces, 1);
  assert.deepEqual(
    [0, 1, 2].map((index) => source[index * page + 1]),
    [299, 299, 299].map((each) => each % 256),
  );
  assert.equal(byte(memory, 3 * page), 7);
  mine();
  assert.equal(byte(memory, 3 * page), 0);
});

test('a worker meets the ties of another thread', async () => {
  const memory = newMemory({ shared: true });
  const untie = newSource('of this thread').tie(memory, 0, page);
  const body = ({ memory }, port) => {
    const source = pagetie.openMemFDBuffer('of a worker', page).fill(8);
    try {
      source.tie(memory, 0, page);
    } catch (error) {
      port.postMessage(error.code);
    }
    source.tie(memory, page, page); // and is not untied
  };
  assert.deepEqual(await ended(inWorker(body, { memory })), ['PAGETIE_OVERLAP']);
  // The worker's memory objects died with it; what it tied stays, and can be tied over.
  assert.deepEqual([byte(memory, 0), byte(memory, page)], [7, 8]);
  assert.equal(pagetie._counts().ties, 1);
  newSource('over it', 9).tie(memory, page, page);
  assert.equal(byte(memory, page), 9);
  untie();
  assert.equal(byte(memory, 0), 0);
});

test('workers end with live ties: by themselves, by process.exit, by terminate()', async () => {
  await nothingLeft();
  const body = ({ how, shared }, port) => {
    const memories = [new WebAssembly.Memory({ initial: 64, maximum: 64 }), shared];
    const source = pagetie.openMemFDBuffer('worker', 4 * page).fill(5);
    globalThis.ties = memories.map((memory) => source.tie(memory, 0, page, { access: 'read-only' }));
    source.tie(memories[0].buffer, page, page);
    port.postMessage('tied');
    if (how === 'exit') process.exit(0);
    if (how === 'terminate') for (;;) ties[0].retie((ties[0].sourceOffset + page) % (4 * page));
  };
  const one = async (how) => {
    const shared = newMemory({ shared: true });
    const worker = inWorker(body, { how, shared });
    if (how === 'terminate') worker.once('message', () => setTimeout(() => worker.terminate(), 20));
    await ended(worker);
    assert.equal(byte(shared, 0), 5, how);
    assert.equal(pagetie._counts().ties, 0, how);
  };
  for (const how of ['return', 'exit', 'terminate', 'return', 'exit', 'terminate']) await one(how);
  await nothingLeft();
  await collected('the regions', () => mapped('worker') === 0);
});

// ---- The end of a process -----------------------------------------------------------------------------

const live = `
  const pagetie = require(${JSON.stringify(require.resolve('pagetie'))});
  const memory = new WebAssembly.Memory({ initial: 64, maximum: 128, shared: true });
  const source = pagetie.openMemFDBuffer('live', 4 * pagetie.pageSize);
  for (const [index, access] of ['read-only', 'copy-on-write', 'read-write'].entries()) {
    source.tie(memory, index * pagetie.pageSize, pagetie.pageSize, { access });
    globalThis[access] = source.tie(new WebAssembly.Memory({ initial: 64 }), 0, pagetie.pageSize, { access });
  }
`;

test('a process ends with live ties', () => {
  run(live);
  run(`${live} process.exit(3)`, 3);
  run(`${live} memory.grow(1)`);
  run(`${live} globalThis['read-only'].target.grow(1); throw new Error('thrown')`, 1);
  run(`${live} process.on('exit', () => { globalThis['read-only'](); gc(); })`);
});

test('a process ends while its workers tie', () => {
  const worker = `${live} const untie = globalThis['read-write'];
    for (;;) { untie.retie(0); source.tie(memory, 1 << 20, pagetie.pageSize)(); }`;
  run(`const { Worker } = require('node:worker_threads');
    for (let i = 0; i < 3; i++) new Worker(${JSON.stringify(worker)}, { eval: true });
    setTimeout(() => process.exit(0), 500);`);
});

// V8 moves a memory that grows only if it has reserved no more addresses than it needed. It wants to be without
// its trap handler for that, and at a limit of addresses, which is lifted before the memory grows.
test('a memory moves', (t) => {
  const program = `'use strict';
    const { execFileSync } = require('node:child_process');
    const native = require(${JSON.stringify(require.resolve('../build/pagetie.node'))});
    const pagetie = require(${JSON.stringify(require.resolve('pagetie'))});
    const page = pagetie.pageSize;
    const memory = new WebAssembly.Memory({ initial: 16 });
    const at = () => native.outside(new Uint8Array(memory.buffer, 0, 0), memory.buffer.byteLength);
    const source = pagetie.openMemFDBuffer('moves', page).fill(7);
    const ties = [page, 2 * page].map((at) => source.tie(memory, at, page, { access: 'read-only' }));
    const before = at();
    execFileSync('prlimit', ['--pid', process.pid, '--as=unlimited']);
    memory.grow(before.reserved / 65536 + 1);
    if (at().start === before.start) process.exit(9);
    const found = { ties: [], counts: pagetie._counts() };
    for (const untie of ties) {
      try {
        untie();
      } catch (error) {
        found.ties.push([error.name, error.code, error.message]);
      }
      untie();
      found.ties.push(untie.live);
    }
    const bytes = new Uint8Array(memory.buffer);
    bytes.fill(8, page, 2 * page);
    found.bytes = [bytes[page], bytes[2 * page], source[0]];
    const untie = source.tie(memory, page, page);
    found.bytes.push(bytes[page]);
    untie();
    found.bytes.push(bytes[page]);
    console.log(JSON.stringify(found));`;
  const command = 'ulimit -S -v 1600000 && exec "$0" --disable-wasm-trap-handler -e "$1"';
  const child = spawnSync('sh', ['-c', command, process.execPath, program], {
    cwd: __dirname,
    encoding: 'utf8',
  });
  if (child.status === 9 || /bad option|ENOENT|could not allocate/.test(child.stderr)) {
    t.skip(`skipped: no memory moves here: ${child.stderr || 'it grew in place'}`);
    return;
  }
  assert.deepEqual([child.signal, child.status], [null, 0], child.stderr);
  const { ties, bytes } = JSON.parse(child.stdout);
  for (const [name, code, message] of [ties[0], ties[2]]) {
    assert.deepEqual([name, code], ['Error', 'PAGETIE_CHANGED']);
    assert.match(message, /^grown_to: \[0x/);
  }
  assert.deepEqual([ties[1], ties[3]], [false, false]);
  assert.deepEqual(bytes, [8, 7, 7, 7, 8]); // V8 copied what was tied, and the source is as it was
});

test('a store of JavaScript to a read-only tie is a SIGSEGV', () => {
  const program = `${live} new Uint8Array(globalThis['read-only'].target.buffer)[0] = 1;`;
  const child = spawnSync(process.execPath, ['-e', program], { cwd: __dirname });
  assert.equal(child.signal, 'SIGSEGV');
});
