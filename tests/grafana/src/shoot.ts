/** `node shoot.js JOB.json OUT.png SCALE`: has a headless Chromium draw a job, and prints the page's answer as JSON.
 * The page is served from this folder and from fonts of this machine; whatever else it asks for is refused. */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';

import { chromium, type Page, type Route } from 'playwright-core';

import type { Drawn, Job } from './model';

const HERE = import.meta.dirname;
const SITE = 'http://dashboard.invalid/';
/** Folders for what Grafana's components ask for, by how the address begins. */
const SERVED: Array<[string, (name: string) => string]> = [
  ['public/build/img/', (name) => join(HERE, '../node_modules/@grafana/ui/dist/public/img', name)],
  // Debian's fonts-inter has the same files in another container.
  ['public/fonts/inter/', (name) => join('/usr/share/fonts/opentype/inter', name.replace('.woff2', '.otf'))],
];
/** Fonts that stay at home: the next of the style sheet's list is taken. */
const DISPENSABLE = 'public/fonts/';
const TYPES: Record<string, string> = {
  '.svg': 'image/svg+xml',
  '.otf': 'font/otf',
  '.js': 'text/javascript',
  '.css': 'text/css',
};
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const PAGE = `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css"><style>body { margin: 0 }</style><body><script src="page.js"></script>`;

async function answer(route: Route, refused: string[]): Promise<void> {
  const address = route.request().url();
  const path = address.startsWith(SITE) ? address.slice(SITE.length) : undefined;
  if (path === '') {
    return route.fulfill({ contentType: 'text/html', body: PAGE });
  }
  const [prefix, place] = SERVED.find(([begin]) => path?.startsWith(begin)) ?? ['', (name: string) => join(HERE, name)];
  const file = path === undefined ? '' : place(path.slice(prefix.length));
  if (path === undefined || path.includes('..') || !existsSync(file)) {
    if (!path?.startsWith(DISPENSABLE)) {
      refused.push(address);
    }
    return route.abort();
  }
  return route.fulfill({ contentType: TYPES[extname(file)] ?? 'application/octet-stream', body: await readFile(file) });
}

/** Two pictures that are the same, a tenth of a second apart: nothing moves any more. */
async function atRest(page: Page): Promise<Buffer> {
  let last = await page.screenshot();
  for (let tries = 0; tries < 50; tries++) {
    await page.waitForTimeout(100);
    const next = await page.screenshot();
    if (next.equals(last)) {
      return next;
    }
    last = next;
  }
  throw new Error('the page does not come to rest');
}

async function shoot(job: Job, scale: number): Promise<{ drawn: Drawn; picture: Buffer }> {
  const profile = await mkdtemp(join(tmpdir(), 'ixt-chromium-'));
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
    args: FLAGS,
    viewport: { width: job.width, height: job.height },
    deviceScaleFactor: scale,
    reducedMotion: 'reduce',
    timezoneId: 'UTC',
    locale: 'en-US',
  });
  try {
    const errors: string[] = [];
    const page = await browser.newPage();
    page.on('pageerror', (error) => errors.push(error.message));
    await page.route('**/*', (route) => answer(route, errors));
    await page.goto(SITE);
    // Canvases are painted once: the fonts come first.
    await page.addStyleTag({
      content:
        "@font-face { font-family: Inter; font-weight: 400; src: url('/public/fonts/inter/Inter-Regular.woff2') } @font-face { font-family: Inter; font-weight: 500; src: url('/public/fonts/inter/Inter-Medium.woff2') }",
    });
    await page.evaluate(() =>
      Promise.all(['400 12px Inter', '500 12px Inter'].map((font) => document.fonts.load(font))),
    );
    const drawn = await page.evaluate((given) => window.draw(given), job);
    const picture = await atRest(page);
    if (errors.length > 0) {
      throw new Error(`the page failed or asked for what is not there:\n${errors.join('\n')}`);
    }
    return { drawn, picture };
  } finally {
    await browser.close();
    await rm(profile, { recursive: true, force: true });
  }
}

const [jobFile, out, scale] = process.argv.slice(2) as [string, string, string];
try {
  const { drawn, picture } = await shoot(JSON.parse(readFileSync(jobFile, 'utf8')) as Job, Number(scale));
  await writeFile(out, picture);
  console.log(JSON.stringify(drawn));
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  // Without where in the bundle it happened.
  console.error(message.replace(/^page\.evaluate: Error: /, '').split(/\n +at /)[0]);
  process.exitCode = 1;
}
