// What programs of buffer-tie 0.0.2 do.
'use strict';
const assert = require('node:assert');
const { test } = require('node:test');
const pagetie = require('pagetie');

const page = pagetie.pageSize;
const half = 32 * 1024;

// Word for word its README. The last line is not part of it: it hands out what the example made.
const example = `
let tie = require('buffer-tie')
let src = tie.openMemFDBuffer('my data', 1<<20);
// A Memory with just one 64kB page.
let dst = new WebAssembly.Memory({initial:1,maximum:1})

// Zero-copy alias of the first 32 kB of src into the last 32 kB of dst.
src.tie(dst, 32*1024, 32*1024);

return { src, dst };
`;

const skip = half % page !== 0 && `pages have ${page} bytes, and the example ties ${half}`;

test('the example of the README', { skip }, () => {
  const require = (name) => (assert.equal(name, 'buffer-tie'), pagetie);
  const { src, dst } = new Function('require', example)(require);
  const memory = Buffer.from(dst.buffer);
  assert.equal(src.length, 1 << 20);
  assert.equal(memory.length, 2 * half);

  for (let i = 0; i < src.length; i += 1) src[i] = (i * 7) % 251;
  assert(memory.subarray(0, half).every((byte) => byte === 0));
  assert(memory.subarray(half).equals(src.subarray(0, half)));
  memory.fill(99, half);
  assert(src.subarray(0, half).every((byte) => byte === 99));
  assert.equal(src[half], (half * 7) % 251);
});

test('an ArrayBuffer as source and target, the offset of the source as fourth argument, close, untie', () => {
  const src = pagetie.openMemFDArrayBuffer('test', 16 * page);
  const memory = new WebAssembly.Memory({ initial: Math.ceil(page / 65536) * 4, maximum: 64 });
  const seen = (at) => new Uint8Array(memory.buffer)[at];

  const untie = src.tie(memory.buffer, 2 * page, page, page);
  assert.equal(src.byteLength, 16 * page);
  src.close();
  src.close();
  assert.throws(() => src.tie(memory.buffer, 0, page), { name: 'Error', code: 'PAGETIE_ENDED' });

  new Uint8Array(src, 0, 100).fill(42);
  new Uint8Array(src, page + 100, 40).fill(1);
  new Uint8Array(memory.buffer, 4 * page - 100, 100).fill(43);
  assert.deepEqual(
    [seen(2 * page), seen(2 * page + 100), seen(2 * page + 139), seen(2 * page + 140)],
    [0, 1, 1, 0],
  );
  assert.deepEqual([seen(0), seen(3 * page - 1), seen(4 * page - 1)], [0, 0, 43]);
  new Uint8Array(memory.buffer, 2 * page + 140, 40).fill(2);
  assert.equal(new Uint8Array(src)[page + 179], 2);

  untie();
  assert.deepEqual(
    [seen(2 * page), seen(2 * page + 100), seen(2 * page + 140), seen(4 * page - 1)],
    [0, 0, 0, 43],
  );
  assert.equal(new Uint8Array(src)[page + 179], 2);
});

test('what is left out is all that fits', () => {
  const src = pagetie.openMemFDBuffer('short', 2 * page);
  const memory = new WebAssembly.Memory({ initial: 16 });
  const untie = src.tie(memory);
  assert.deepEqual([untie.targetOffset, untie.sourceOffset, untie.byteLength], [0, 0, 2 * page]);
  const long = pagetie.openMemFDBuffer('long', 64 * 65536);
  assert.equal(long.tie(memory, 4 * page).byteLength, 16 * 65536 - 4 * page);
});
