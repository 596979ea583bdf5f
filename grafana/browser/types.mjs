// Writes the dashboards as TypeScript to build/, where `tsc` checks them against Grafana's schema.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';

mkdirSync('build', { recursive: true });
const texts = readdirSync('../dashboards').map((name) => readFileSync(`../dashboards/${name}`, 'utf8'));
const checks = texts.map((text, place) => `export const board${place} = ${text.trim()} satisfies Importable;`);
writeFileSync('build/dashboards.ts', ["import { Importable } from '../src/schema';", ...checks].join('\n'));
