// Builds dist: one module to be bundled, the same minified, and the types.

import { build } from "esbuild";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { minify } from "terser";

rmSync("dist", { recursive: true, force: true });
const options = { entryPoints: ["src/index.ts"], bundle: true, format: "esm", target: "es2022", platform: "neutral" };
const define = { PLAIN: "false" };
await build({ ...options, define, outfile: "dist/index.js" });
await build({ ...options, define: { PLAIN: "true" }, outfile: "dist/react-native.js" });
const { code } = await minify(readFileSync("dist/index.js", "utf8"), { module: true, ecma: 2022, compress: { passes: 3, unsafe_arrows: true, unsafe_methods: true } });
writeFileSync("dist/pushgate.min.js", code);
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc"], { stdio: "inherit" });
