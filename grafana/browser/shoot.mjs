// node shoot.mjs CHROMIUM JOBS.json: draws each job in a browser, writes its screenshot, and prints the state of its
// panels as JSON.
//
// A job is {task, picture}: a Task of src/data.ts, and the path of a PNG ("" for none).
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const DEADLINE = 30_000; // milliseconds per screenshot
const [chromium, jobs] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'celery-vitals-pictures-'));
const built = (name) => pathToFileURL(join(dirname(fileURLToPath(import.meta.url)), 'build', name)).href;
const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--hide-scrollbars',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--allow-file-access-from-files',
  `--user-data-dir=${join(folder, 'profile')}`, '--remote-debugging-pipe'];
const browser = spawn(chromium, flags, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], detached: true });

const waiting = new Map();
let last = 0;
let rest = '';
browser.stdio[4].on('data', (piece) => {
  const parts = (rest + piece).split('\0');
  rest = parts.pop();
  for (const answer of parts.map((part) => JSON.parse(part))) {
    const { resolve, reject } = waiting.get(answer.id) ?? {};
    waiting.delete(answer.id);
    answer.error ? reject?.(new Error(answer.error.message)) : resolve?.(answer.result);
  }
});

function send(method, params = {}, sessionId = undefined) {
  const id = ++last;
  browser.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + '\0');
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

const PANELS = `({
  panels: [...document.querySelectorAll('section[data-panel]')].map((one) => ({
    ...one.dataset, text: one.innerText, drawn: one.querySelectorAll('canvas, svg rect, [role=cell], [role=gridcell]').length })),
  variables: [...document.querySelectorAll('[data-variable]')].map((one) => ({ ...one.dataset })),
  height: document.getElementById('page').scrollHeight,
})`;

async function draw({ task, picture }) {
  const page = join(folder, 'page.html');
  const text = JSON.stringify(task).replaceAll('<', '\\u003c');
  writeFileSync(
    page,
    `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="${built('page.css')}"><div id="page"></div>
<script>window.TASK=${text}</script><script src="${built('page.js')}"></script>`
  );
  const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
  const evaluate = async (expression) =>
    (await send('Runtime.evaluate', { expression, returnByValue: true }, sessionId)).result.value;
  const size = (height) =>
    send('Emulation.setDeviceMetricsOverride', { width: task.width, height, deviceScaleFactor: task.scale ?? 1, mobile: false }, sessionId);
  await size(3000);
  const source = 'addEventListener("error", (event) => (window.FAILED = `${event.message} ${event.filename}:${event.lineno}`))';
  await send('Page.enable', {}, sessionId);
  await send('Page.addScriptToEvaluateOnNewDocument', { source }, sessionId);
  await send('Page.navigate', { url: pathToFileURL(page).href }, sessionId);
  const until = Date.now() + DEADLINE;
  while (!(await evaluate('window.READY === true'))) {
    if (Date.now() > until) {
      throw new Error(`timed out after ${DEADLINE / 1000} s: ${await evaluate('window.FAILED || document.body.innerText')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  const seen = await evaluate(PANELS);
  if (picture) {
    await size(Math.ceil(seen.height));
    const { data } = await send('Page.captureScreenshot', { format: 'png' }, sessionId);
    writeFileSync(picture, Buffer.from(data, 'base64'));
  }
  await send('Target.closeTarget', { targetId });
  return { title: task.dashboard.title, picture, ...seen };
}

try {
  const seen = [];
  for (const job of JSON.parse(readFileSync(jobs, 'utf8'))) {
    seen.push(await draw(job));
  }
  process.stdout.write(JSON.stringify(seen));
} finally {
  process.kill(-browser.pid, 'SIGKILL');
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
