// Builds build/pagetie.node with g++ (or CXX), from addon.cpp and the static library. `npm install` runs it.
// Node-API has one ABI for all versions of Node, so the headers are a package and nothing is downloaded.
'use strict';
const { execFileSync } = require('node:child_process');
const { mkdirSync, renameSync } = require('node:fs');
const path = require('node:path');

const root = path.resolve(__dirname, '../../..');
const target = path.resolve(root, process.env.CARGO_TARGET_DIR || 'target');
const out = path.join(__dirname, 'build', 'pagetie.node');
const run = (command, ...args) => execFileSync(command, args, { cwd: __dirname, stdio: 'inherit' });

// PAGETIE_LIB names a libpagetie.a that is there already.
let library = process.env.PAGETIE_LIB;
if (!library) {
  run('make', '--no-print-directory', '-C', path.join(root, 'c-examples'), 'lib');
  library = path.join(target, 'release', 'libpagetie.a');
}

mkdirSync(path.dirname(out), { recursive: true });
run(
  process.env.CXX || 'g++',
  '-std=c++17',
  '-O2',
  '-fPIC',
  '-shared',
  '-fvisibility=hidden',
  '-Wall',
  '-Wextra',
  '-Wpedantic',
  '-Wno-cast-function-type',
  '-DNAPI_VERSION=8',
  '-I',
  path.join(root, 'include'),
  '-I',
  require('node-api-headers').include_dir,
  'addon.cpp',
  library,
  // Its symbols stay in here; and it stays loaded when the worker that loaded it ends, since others use it.
  '-Wl,--exclude-libs,ALL',
  '-Wl,-z,nodelete',
  '-Wl,--gc-sections',
  '-o',
  `${out}.new`,
);
renameSync(`${out}.new`, out); // a program that has the old one open keeps it
