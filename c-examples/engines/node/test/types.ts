// Only compiled, by types.test.js: what index.d.ts promises, used as a program would.
import pagetie = require('pagetie');

const source = pagetie.openMemFDBuffer('types', pagetie.pageSize);
source.writeUInt8(1, 0);
const memory: pagetie.MemoryLike = { buffer: new ArrayBuffer(65536), grow: () => 1 };
const untie = source.tie(memory, 0, pagetie.pageSize, { access: 'read-only', covered: 'discard' });
source.tie(memory.buffer, 0, 1n, 0);
source.tie(new SharedArrayBuffer(65536));
source.tie(new DataView(memory.buffer));
untie.retie(0);
untie.retie(source, 0n);
untie.protect('none', 0);
untie.discard();
untie.grown(memory.buffer);
const access: 'read-only' | 'read-write' | 'copy-on-write' = untie.access;
const protection: pagetie.Protection = pagetie.inspect(memory)[0].protection;
pagetie.protect(memory, protection);
pagetie.discard(source, 0, pagetie.pageSize);
const array: ArrayBuffer = pagetie.openMemFDArrayBuffer('types', 1);
const file: Buffer = pagetie.openFDBuffer(source.fd);
untie();

// @ts-expect-error: there is no such access
source.tie(memory, 0, 1, { access: 'write-only' });
// @ts-expect-error: a string is no memory
source.tie('memory');
// @ts-expect-error: it is not for writing
untie.targetOffset = 1;
void [access, array, file];
