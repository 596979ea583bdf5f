// Bundles the page as build/page.js.
//
// In two steps, so that every package is bundled in its CommonJS form: as ES modules, components of older packages
// are imported as module objects.
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
  // No panel uses the code editor.
  alias: { 'monaco-editor': './src/nothing.ts' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff2': 'empty', '.png': 'empty' },
  logLevel: 'error',
});
