// Packs what would be published, and has it looked at.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const folder = mkdtempSync(path.join(tmpdir(), "pushgate-"));
const run = (command, ...args) => execFileSync(command, args, { stdio: ["ignore", "pipe", "inherit"], encoding: "utf8" });
try {
  const [packed] = JSON.parse(run("npm", "pack", "--ignore-scripts", "--json", "--pack-destination", folder));
  const file = path.join(folder, packed.filename);
  const unwanted = packed.files.map((f) => f.path).filter((name) => !/^(dist\/[\w.-]+|package\.json|README\.md)$/.test(name));
  if (unwanted.length) throw new Error(`not to be published: ${unwanted}`);
  process.stdout.write(run("npx", "publint", "--strict", file));
  process.stdout.write(run("npx", "attw", "--profile", "esm-only", file));
} catch (error) {
  console.error(error.stdout ?? error.message);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true });
}
