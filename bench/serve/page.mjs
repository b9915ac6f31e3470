// The page of a server in a real browser: by mouse, by keyboard, by drag and drop, and as a screen reader sees it.
//
//     node page.mjs INCEPTION_BINARY PICTURE
//
// needs chromium and `npm install playwright-core` (or NODE_PATH where it is).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.env.PLAYWRIGHT ?? import.meta.url);
const { chromium } = require("playwright-core");
const [binary, picture] = process.argv.slice(2);

const server = spawn(binary, [
  "serve", "--model", "GoogLeNet", "again:GoogLeNet", "--random-weights", "--http", "127.0.0.1:0", "--log", "json", "--lame-duck", "0",
], { stdio: ["ignore", "ignore", "pipe"] });
let address;
for await (const line of createInterface({ input: server.stderr })) {
  const entry = line.startsWith("{") ? JSON.parse(line) : {};
  if (entry.message === "ready") { address = `http://${entry.http}`; break; }
}
assert(address, "the server did not start");

// In CI a first Enter opened no dialogue now and then. Who sees none presses the key again.
async function chooserByEnter(page) {
  for (let attempt = 1; ; attempt += 1) {
    const chooser = page.waitForEvent("filechooser", { timeout: 5000 });
    const [outcome] = await Promise.allSettled([chooser, page.keyboard.press("Enter")]);
    if (outcome.status === "fulfilled") return outcome.value;
    if (attempt === 5) throw outcome.reason;
  }
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"],
});
try {
  const page = await browser.newPage();
  // A listener from the start: playwright asks Chromium for choosers in the background, and a key pressed before
  // that has arrived opens a dialogue that nobody sees.
  page.on("filechooser", () => {});
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error") faults.push(message.text()); });
  await page.goto(address);
  await page.getByLabel("Model").locator("option").nth(1).waitFor({ state: "attached" });

  // By choosing a file: classes with bars, the time, and a line for curl.
  await page.getByLabel("Choose pictures").setInputFiles(picture);
  await page.getByRole("status").filter({ hasText: "1 of 1 classified." }).waitFor();
  const answer = page.locator("article").first();
  assert.equal(await answer.getByRole("row").count(), 5);
  const shares = await answer.locator("td.share").allTextContents();
  assert(shares.every((share) => /^\d+\.\d\d %$/.test(share)), shares);
  const widths = await answer.locator("td.bar div").evaluateAll((bars) => bars.map((bar) => bar.getBoundingClientRect().width));
  assert(widths.every((width, at) => width > 0 && (at === 0 || width <= widths[at - 1])), widths);
  assert.match(await answer.locator("caption").textContent(), /^GoogLeNet, \d+ ms$/);
  const line = await answer.locator("code").textContent();
  assert(line.startsWith("curl --data-binary @'") && line.endsWith(`${address}/v1/models/GoogLeNet/classify`), line);
  assert(await answer.locator("img").evaluate((image) => image.decode().then(() => image.naturalWidth > 0)));
  assert.match(await answer.textContent(), /Warning: random weights/);

  // By keyboard alone: to the model, another model, to the files, and open the system's dialogue.
  await page.reload();
  await page.getByLabel("Model").locator("option").nth(1).waitFor({ state: "attached" });
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "model");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.getByLabel("Model").inputValue(), "again");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.id), "files");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.notEqual(outline, "none", "what has the focus is seen");
  await (await chooserByEnter(page)).setFiles([{ name: "a.jpg", mimeType: "image/jpeg", buffer: readFileSync(picture) }, { name: "none.png", mimeType: "image/png", buffer: Buffer.from("none") }]);
  await page.getByRole("status").filter({ hasText: "1 of 2 classified, 1 failed." }).waitFor();
  assert.match(await page.locator("article").first().textContent(), /the picture cannot be used/);
  assert.match(await page.locator("caption").first().textContent(), /^again, /);

  // By dropping one.
  const data = await page.evaluateHandle((bytes) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(bytes)], "<b>it's.jpg", { type: "image/jpeg" }));
    return transfer;
  }, [...readFileSync(picture)]);
  await page.dispatchEvent("#drop", "drop", { dataTransfer: data });
  await page.getByRole("status").filter({ hasText: "1 of 1 classified." }).waitFor();
  assert.equal(await page.locator("article h2").first().textContent(), "<b>it's.jpg", "a name is no markup");
  assert(await page.locator("article code").first().textContent().then((text) => text.includes("@'<b>it'\\''s.jpg'")));

  // What a screen reader is told.
  const seen = await page.locator("main").ariaSnapshot();
  for (const part of ['heading "Classify pictures"', 'group "Pictures"', 'combobox "Model"', 'button "Choose pictures"', "status", 'region "Answers"', "rowheader"]) {
    assert(seen.includes(part), `${part} in\n${seen}`);
  }
  assert.equal(await page.evaluate(() => document.documentElement.lang), "en");

  // A narrow screen does not scroll sideways.
  await page.setViewportSize({ width: 320, height: 640 });
  assert(await page.evaluate(() => document.documentElement.scrollWidth <= 320), "it fits 320 pixels");
  const unexpected = faults.filter((fault) => !fault.includes("400 (Bad Request)"));
  assert.deepEqual(unexpected, []);
  console.log("page: chromium", browser.version(), "passed");
} finally {
  await browser.close();
  server.kill("SIGTERM");
}
