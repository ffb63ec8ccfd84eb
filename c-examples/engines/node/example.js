// An embedder's story: the host's data, seen by WebAssembly without a copy. `npm run example`
'use strict';
const pagetie = require('pagetie');
const { compileGuest } = require('./guest.js');

async function main() {
  const page = pagetie.pageSize;
  const WINDOW = 64 * 1024; // where the guest looks, and how much of the data it sees at a time

  // 1 GiB of the host's. It takes memory only where it is written.
  const data = pagetie.openMemFDBuffer('the data', 1 << 30);
  data.fill(1, 0, WINDOW);
  data.fill(2, data.length - WINDOW);

  // Any WebAssembly.Memory will do. This guest has 256 KiB and a function that adds bytes up.
  const { memory, sum } = new WebAssembly.Instance(await compileGuest()).exports;
  console.log(`the guest has ${memory.buffer.byteLength >> 10} KiB, the host ${data.length >> 20} MiB`);

  // Create a tie: the guest now sees the first 64 KiB of the data at its address 64 KiB.
  const untie = data.tie(memory, WINDOW, WINDOW, { access: 'read-only' });
  console.log('at the beginning the bytes add up to', sum(WINDOW, WINDOW));

  // What the host writes is there at once.
  data[0] = 101;
  console.log('after the host wrote one, to', sum(WINDOW, WINDOW));

  // Move on: the same addresses, other pages, in one system call.
  untie.retie(data.length - WINDOW);
  console.log('at the end, to', sum(WINDOW, WINDOW));

  // Several ties in one memory, here one page which the guest may write too.
  const untiePage = data.tie(memory, 2 * WINDOW, page, { access: 'read-write' });
  new Uint8Array(memory.buffer)[2 * WINDOW] = 42;
  console.log('the guest wrote', data[0]);

  // What was there before comes back.
  untiePage();
  untie();
  console.log('untied:', Buffer.from(memory.buffer, WINDOW, 21).toString());
}

main();
