'use strict';
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { test } = require('node:test');

test('index.d.ts is what types.ts thinks, by tsc', () => {
  const tsc = path.join(path.dirname(require.resolve('typescript/package.json')), 'bin', 'tsc');
  const options = [
    '--noEmit',
    '--strict',
    '--target',
    'es2022',
    '--module',
    'node16',
    '--moduleResolution',
    'node16',
  ];
  const file = path.join(__dirname, 'types.ts');
  try {
    execFileSync(process.execPath, [tsc, ...options, '--types', 'node', file], { stdio: 'pipe' });
  } catch (error) {
    throw new Error(error.stdout.toString());
  }
});
