// The page as one file, build/page.js.
//
// In two steps, so that every package is taken in its CommonJS form: in the other, components of older packages come
// out as objects.
import { build } from 'esbuild';

await build({
  entryPoints: ['src/page.tsx'],
  outfile: 'build/source.cjs',
  bundle: true,
  format: 'cjs',
  packages: 'external',
  logLevel: 'warning',
});
await build({
  entryPoints: ['build/source.cjs'],
  outfile: 'build/page.js',
  bundle: true,
  format: 'iife',
  platform: 'browser',
  // Code editors are in no panel.
  alias: { 'monaco-editor': './src/nothing.ts' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff2': 'empty', '.png': 'empty' },
  logLevel: 'error',
});
