// Fails when a page has to load more than was promised.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const most = 4096;
const bytes = gzipSync(readFileSync("dist/pushgate.min.js"), { level: 9 }).length;
console.log(`pushgate.min.js: ${bytes} bytes gzip, of ${most}`);
if (bytes > most) process.exit(1);
