// ../guest.wat, the guest of all engines, made WebAssembly by wabt from npm.
'use strict';
const { readFileSync } = require('node:fs');
const path = require('node:path');

/// The guest as a WebAssembly.Module, of which every instance has a memory of its own.
async function compileGuest() {
  const file = path.join(__dirname, '..', 'guest.wat');
  const wabt = await require('wabt')();
  const parsed = wabt.parseWat(file, readFileSync(file, 'utf8'));
  return new WebAssembly.Module(parsed.toBinary({}).buffer);
}

module.exports = { compileGuest };
