'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const vm = require('node:vm');
const { test } = require('node:test');
const pagetie = require('pagetie');

const { MAX_LENGTH } = require('node:buffer').constants;
const page = pagetie.pageSize;
const wasmPage = 65536;
const unit = Math.max(page, wasmPage); // what both can be tied in
const newMemory = (options) =>
  new WebAssembly.Memory({ initial: (8 * unit) / wasmPage, maximum: 1024, ...options });
const newSource = (pages = 4, name = 'test') => {
  const source = pagetie.openMemFDBuffer(name, pages * page);
  for (let i = 0; i < pages; i++) source.fill(i + 1, i * page, (i + 1) * page);
  return source;
};
const hex = (number) => `0x${number.toString(16)}`;
const byte = (memory, at) => new Uint8Array(memory.buffer)[at];
const store = (memory, at, value) => (new Uint8Array(memory.buffer)[at] = value);

test('a source is a Buffer of zeros with methods that do not show', () => {
  const source = pagetie.openMemFDBuffer('a source', 2 * page);
  assert(Buffer.isBuffer(source));
  assert.equal(source.length, 2 * page);
  assert(source.every((each) => each === 0));
  assert.deepEqual(Object.keys(source).length, 2 * page);
  assert(fs.readFileSync('/proc/self/maps', 'utf8').includes('/memfd:a source'));
});

for (const kind of ['plain', 'shared']) {
  const fresh = () => newMemory({ shared: kind === 'shared' });
  const targets = {
    'the memory': (memory) => memory,
    'its buffer': (memory) => memory.buffer,
    'a typed array': (memory) => new Float64Array(memory.buffer),
    'a DataView': (memory) => new DataView(memory.buffer),
  };
  for (const [name, of] of Object.entries(targets)) {
    test(`${kind} memory, tied through ${name}`, () => {
      const memory = fresh();
      const source = newSource();
      store(memory, page, 77);
      const untie = source.tie(of(memory), page, 2 * page, page);
      assert.deepEqual(
        [byte(memory, page - 1), byte(memory, page), byte(memory, 2 * page), byte(memory, 3 * page)],
        [0, 2, 3, 0],
      );
      store(memory, page + 1, 200);
      assert.equal(source[page + 1], 200);
      source[page + 2] = 201;
      assert.equal(byte(memory, page + 2), 201);
      assert(untie.live);
      untie();
      assert(!untie.live);
      assert.deepEqual([byte(memory, page), byte(memory, page + 1)], [77, 0]);
      untie(); // does nothing
    });
  }

  test(`${kind} memory has one space, however it is reached`, () => {
    const memory = fresh();
    const source = newSource();
    const unties = [
      source.tie(memory, 0, page),
      source.tie(memory.buffer, page, page),
      source.tie(new Uint8Array(memory.buffer), 2 * page, page),
    ];
    assert.throws(() => source.tie(memory.buffer, 0, page), { name: 'Error', code: 'PAGETIE_OVERLAP' });
    assert.throws(() => source.tie(memory, 2 * page, page), { name: 'Error', code: 'PAGETIE_OVERLAP' });
    unties.forEach((untie) => untie());
    source.tie(memory, 0, 3 * page)();
  });

  test(`${kind} memory grows under a live tie`, () => {
    const memory = fresh();
    const source = newSource();
    const untie = source.tie(memory, page, page, { access: 'read-only' });
    const other = source.tie(memory, 2 * page, 4 * page);
    other.protect('none', page, 2 * page);
    other.protect('read', 2 * page);
    pagetie.protect(memory, 'read', 4 * page, 3 * page);
    pagetie.protect(memory, 'read-write', 5 * page, page);
    const protections = () => {
      const places = [1, 2, 3, 4, 5, 6, 7];
      return places.map((at) => pagetie.inspect(memory, at * page, page)[0].protection);
    };
    assert.deepEqual(protections(), [
      'read',
      'read-write',
      'none',
      'read',
      'read-write',
      'read',
      'read-write',
    ]);
    const before = memory.buffer.byteLength;
    memory.grow(unit / wasmPage);
    assert.equal(source.tie(memory, before, page).targetOffset, before); // in what is new
    // What was forbidden is forbidden again, of ties and beside them.
    assert.deepEqual(protections(), [
      'read',
      'read-write',
      'none',
      'read',
      'read-write',
      'read',
      'read-write',
    ]);
    assert.equal(byte(memory, page), 1);
    untie();
    other.retie(0);
    pagetie.protect(memory, 'read-write', 6 * page, page);
    memory.grow(unit / wasmPage);
    assert.deepEqual(new Set(protections()), new Set(['read-write']));
  });
}

test('a typed array is a target from its own beginning to its own end', () => {
  const memory = newMemory();
  const source = newSource();
  const view = new Uint8Array(memory.buffer, 2 * page, 2 * page);
  const untie = source.tie(view, page, page);
  assert.equal(untie.targetOffset, 3 * page);
  assert.equal(view[page], 1);
  assert.throws(() => source.tie(view, page, 2 * page), {
    name: 'RangeError',
    code: 'PAGETIE_OUT_OF_RANGE',
    message: `tie: target: bytes [${[hex(page), hex(3 * page)].join(', ')}) end past the end at ${hex(2 * page)}`,
  });
});

test('an ArrayBuffer that memory.grow detached', () => {
  const memory = newMemory();
  const source = newSource();
  const old = memory.buffer;
  const untie = source.tie(old, page, page, { access: 'read-only' });
  memory.grow(1);
  const detached = { name: 'Error', code: 'PAGETIE_CHANGED', message: /detached.*grown\(\)/ };
  assert.throws(untie, detached);
  assert.throws(() => untie.retie(page), detached);
  assert.throws(() => source.tie(old, 2 * page, page), { name: 'RangeError' }); // 0 bytes long
  assert(untie.live);
  assert.equal(byte(memory, page), 1); // it is still there
  assert.throws(() => untie.grown(newMemory()), { code: 'PAGETIE_CHANGED', message: /another memory/ });
  untie.grown(memory);
  assert.equal(untie.target, memory);
  assert.equal(pagetie.inspect(memory, page, page)[0].protection, 'read');
  untie.retie(page);
  assert.equal(byte(memory, page), 2);
  untie();
  assert.equal(byte(memory, page), 0);
});

test('retie: another part, another source, back', () => {
  const memory = newMemory();
  const [source, other] = [newSource(), newSource(2, 'other')];
  other.fill(50);
  const untie = source.tie(memory, 0, page);
  untie.retie(3 * page);
  assert.deepEqual([byte(memory, 0), untie.sourceOffset], [4, 3 * page]);
  untie.retie(other, page);
  assert.deepEqual([byte(memory, 0), untie.sourceOffset], [50, page]);
  untie.retie(other.subarray(3));
  assert.equal(untie.sourceOffset, 0);
  untie.retie(page);
  assert.equal(byte(memory, 0), 50);
  assert.throws(() => untie.retie(2 * page), { name: 'RangeError', code: 'PAGETIE_OUT_OF_RANGE' });
  assert.throws(() => untie.retie(1), { name: 'RangeError', code: 'PAGETIE_MISALIGNED' });
  assert.throws(() => untie.retie(Buffer.alloc(page)), { name: 'TypeError', code: 'PAGETIE_INVALID' });
  untie();
  assert.deepEqual([untie.live, untie.target, untie.byteLength], [false, undefined, page]);
  assert.throws(() => untie.retie(0), { name: 'Error', code: 'PAGETIE_ENDED' });
  assert.throws(() => untie.protect('none'), { name: 'Error', code: 'PAGETIE_ENDED' });
  assert.throws(() => untie.discard(), { name: 'Error', code: 'PAGETIE_ENDED' });
});

test('access, protect and discard', () => {
  const memory = newMemory();
  const source = newSource();
  const readOnly = source.tie(memory, 0, page, { access: 'read-only' });
  const copy = source.tie(memory, page, page, { access: 'copy-on-write', sourceOffset: BigInt(page) });
  const both = source.tie(memory, 2 * page, 2 * page, { sourceOffset: 2 * page });
  const protection = (at) => pagetie.inspect(memory, at * page, page)[0].protection;
  assert.deepEqual([0, 1, 2].map(protection), ['read', 'read-write', 'read-write']);
  assert.deepEqual(
    [readOnly, copy, both].map((tie) => tie.access),
    ['read-only', 'copy-on-write', 'read-write'],
  );
  assert.throws(() => readOnly.protect('read-write'), { name: 'Error', code: 'PAGETIE_READ_ONLY' });
  assert.throws(() => readOnly.discard(), { name: 'Error', code: 'PAGETIE_READ_ONLY' });

  store(memory, page, 200);
  assert.equal(source[page], 2);
  copy.discard();
  assert.equal(byte(memory, page), 2);

  both.protect('none', page);
  assert.deepEqual([2, 3].map(protection), ['read-write', 'none']);
  both.retie(2 * page); // the access's own protection returns
  assert.equal(protection(3), 'read-write');
  both.discard(page, page);
  assert.deepEqual([source[2 * page], source[3 * page], byte(memory, 3 * page)], [3, 0, 0]);
  pagetie.discard(new Uint8Array(memory.buffer, 2 * page, page));
  assert.deepEqual([source[2 * page], byte(memory, 2 * page)], [0, 0]);

  store(memory, 4 * page, 9);
  const gone = source.tie(memory, 4 * page, page, { covered: 'discard' });
  gone();
  assert.equal(byte(memory, 4 * page), 0);
});

test('inspect says what the kernel has', () => {
  const memory = newMemory();
  const source = newSource();
  source.tie(memory, page, page, { sourceOffset: 3 * page });
  const [before, tied, after] = pagetie.inspect(memory, 0, 3 * page);
  assert.deepEqual(
    { ...tied, inode: 0 },
    {
      offset: page,
      byteLength: page,
      sourceOffset: 3 * page,
      inode: 0,
      protection: 'read-write',
      shared: true,
    },
  );
  assert.equal(tied.inode, fs.fstatSync(source.fd).ino);
  assert.deepEqual([before.inode, after.inode, after.shared], [0, 0, false]);
});

test('a file', () => {
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'pagetie-')), 'data');
  fs.writeFileSync(file, Buffer.alloc(page + 100, 'x'));
  const fd = fs.openSync(file, 'r+');
  const source = pagetie.openFDBuffer(fd);
  fs.closeSync(fd);
  const memory = newMemory();
  const untie = source.tie(memory, 0, page);
  assert.equal(source.length, page + 100);
  store(memory, 1, 'y'.charCodeAt(0));
  assert.equal(fs.readFileSync(file, 'latin1').slice(0, 3), 'xyx');
  untie.retie(0);
  untie();
  const last = source.tie(memory, 0, 100, page); // its end may be inside a page
  assert.deepEqual([last.byteLength, byte(memory, 99), byte(memory, 100)], [100, 120, 0]);
  last();

  const readOnly = fs.openSync(file, 'r');
  assert.throws(() => pagetie.openFDBuffer(readOnly), {
    code: 'PAGETIE_READ_ONLY',
    message: `open: descriptor ${readOnly} is not open for reading and writing`,
  });
  fs.closeSync(readOnly);
  assert.throws(() => pagetie.openFDBuffer(999999), {
    name: 'Error',
    code: 'PAGETIE_OS',
    errno: os.constants.errno.EBADF,
  });
  assert.throws(() => pagetie.openFDBuffer(-1), { name: 'TypeError', code: 'PAGETIE_INVALID' });
  assert.throws(() => pagetie.openFDBuffer('1'), { name: 'TypeError', code: 'PAGETIE_INVALID' });
  fs.rmSync(path.dirname(file), { recursive: true });
});

test('memory that is not WebAssembly memory is refused, with numbers', () => {
  const source = newSource();
  const refused = (target, why) =>
    assert.throws(
      () => source.tie(target, 0, page),
      (error) => {
        assert.deepEqual([error.name, error.code], ['TypeError', 'PAGETIE_REFUSED_MEMORY']);
        assert.match(
          error.message,
          /^tie: the ArrayBuffer of \d+ bytes at 0x[0-9a-f]+ is not WebAssembly memory: /,
        );
        return why.test(error.message) || assert.fail(error.message);
      },
    );
  refused(new ArrayBuffer(unit), /only 0 bytes behind it are reserved/);
  refused(new ArrayBuffer(64 * unit), /begins \d+ bytes past a multiple of 65536/);
  refused(new SharedArrayBuffer(64 * unit), /begins \d+ bytes past a multiple of 65536/);
  refused(new SharedArrayBuffer(unit), /only 0 bytes/);
  refused(Buffer.alloc(unit), /only 0 bytes/);
  refused(Buffer.allocUnsafe(page), /its length is no multiple|only 0 bytes/);
  refused(new ArrayBuffer(unit, { maxByteLength: 4 * unit }), new RegExp(`resized to ${4 * unit} bytes`));
  refused(
    new SharedArrayBuffer(unit, { maxByteLength: 4 * unit }),
    new RegExp(`resized to ${4 * unit} bytes`),
  );
  refused(source, /it is a source itself/);
  refused(vm.runInNewContext(`new ArrayBuffer(${unit})`), /only 0 bytes/);
  const small = new ArrayBuffer(page - 1);
  assert.throws(() => source.tie(small, 0, page), { name: 'RangeError', code: 'PAGETIE_OUT_OF_RANGE' });
});

test('wrong arguments', () => {
  const memory = newMemory();
  const source = newSource();
  const throws = (call, name, code, message = /./) =>
    assert.throws(call, { name, code: `PAGETIE_${code}`, message });
  for (const target of [
    undefined,
    null,
    1,
    'memory',
    {},
    [],
    { buffer: 1 },
    Object.create(WebAssembly.Memory.prototype),
  ]) {
    throws(() => source.tie(target, 0, page), 'TypeError', 'INVALID', /no WebAssembly.Memory/);
  }
  throws(() => source.tie(memory, '0', page), 'TypeError', 'INVALID', /target: offset is string/);
  throws(() => source.tie(memory, -1, page), 'RangeError', 'OUT_OF_RANGE', /-1/);
  throws(() => source.tie(memory, 0.5, page), 'RangeError', 'OUT_OF_RANGE', /0.5/);
  throws(() => source.tie(memory, NaN, page), 'RangeError', 'OUT_OF_RANGE', /NaN/);
  throws(() => source.tie(memory, 2n ** 64n, page), 'RangeError', 'OUT_OF_RANGE', /18446744073709551616/);
  throws(() => source.tie(memory, 1, page), 'RangeError', 'MISALIGNED', new RegExp(`0x1 .*${hex(page)}`));
  throws(() => source.tie(memory, 0, page + 1), 'RangeError', 'MISALIGNED', new RegExp(`${hex(page)}`));
  throws(() => source.tie(memory, 0, page, 8), 'RangeError', 'MISALIGNED', new RegExp(`0x8 .*${hex(page)}`));
  throws(() => source.tie(memory, 0, 0), 'RangeError', 'EMPTY');
  throws(() => source.tie(memory, memory.buffer.byteLength, page), 'RangeError', 'OUT_OF_RANGE');
  throws(() => source.tie(memory, 0, 5 * page), 'RangeError', 'OUT_OF_RANGE', /source: bytes/);
  throws(
    () => source.tie(memory, 0, page, { access: 'write' }),
    'TypeError',
    'INVALID',
    /'read-only', .*: write/,
  );
  throws(() => source.tie(memory, 0, page, { covered: 1 }), 'TypeError', 'INVALID');
  throws(() => source.tie(memory, 0, page, 'x'), 'TypeError', 'INVALID');
  throws(
    () => pagetie.openMemFDBuffer('x', page + 1),
    'RangeError',
    'MISALIGNED',
    new RegExp(`${hex(page)}`),
  );
  throws(() => pagetie.openMemFDBuffer('x', 0), 'RangeError', 'EMPTY');
  if (MAX_LENGTH < Number.MAX_SAFE_INTEGER) {
    throws(
      () => pagetie.openMemFDBuffer('x', MAX_LENGTH + page),
      'RangeError',
      'OUT_OF_RANGE',
      /more than the \d+/,
    );
  } else {
    throws(() => pagetie.openMemFDBuffer('x', 2 ** 52), 'Error', 'NO_MEMORY', /0x10000000000000/);
  }
  throws(() => pagetie.openMemFDBuffer('a\0b', page), 'TypeError', 'INVALID');
  throws(() => pagetie.openMemFDBuffer(7, page), 'TypeError', 'INVALID');
  throws(() => pagetie.protect(memory, 'write'), 'TypeError', 'INVALID');
  throws(() => pagetie.protect(memory, 'read', 1, page), 'RangeError', 'MISALIGNED');
  const empty = new WebAssembly.Memory({ initial: 0, maximum: 1 });
  throws(() => source.tie(empty, 0, page), 'RangeError', 'OUT_OF_RANGE');
  throws(() => source.tie(empty), 'RangeError', 'EMPTY');
  // Nothing of all that has changed anything.
  assert(new Uint8Array(memory.buffer).every((each) => each === 0));
  source.tie(memory, 0, 4 * page)();
});

test('errors of the library carry its numbers', () => {
  const memory = newMemory();
  const source = newSource();
  source.tie(memory, page, page);
  try {
    source.tie(memory, 0, 4 * page);
    assert.fail('no error');
  } catch (error) {
    const { code, value, valueEnd, other, otherEnd } = error;
    assert.deepEqual(
      { code, value, valueEnd, other, otherEnd },
      { code: 'PAGETIE_OVERLAP', value: 0, valueEnd: 4 * page, other: page, otherEnd: 2 * page },
    );
  }
});

test('objects that claim to be longer than they are', () => {
  const source = newSource();
  const memory = newMemory();
  const { buffer } = memory;
  const real = buffer.byteLength;
  Object.defineProperty(buffer, 'byteLength', { value: 1 << 30 });
  assert.throws(() => source.tie(buffer, real, page), { name: 'RangeError', code: 'PAGETIE_OUT_OF_RANGE' });
  Object.defineProperty(memory, 'buffer', { value: new ArrayBuffer(unit) });
  source.tie(memory, 0, page)();
});

test('memory of another realm', () => {
  const memory = vm.runInNewContext('new WebAssembly.Memory({ initial: 4, maximum: 4 })');
  const source = newSource(1);
  if (page <= wasmPage) {
    source.tie(memory, 0, page)();
    source.tie(memory.buffer, 0, page)();
  }
});
