import assert from "node:assert/strict";
import { test } from "node:test";
import { clean, soak } from "./soak.js";

test("the short form of the soak: one trouble of each kind, twice", async (t) => {
  const seen = await soak({ minutes: 0.4, troubles: 14 });
  t.diagnostic(JSON.stringify(seen));
  assert.ok(clean(seen), JSON.stringify(seen));
  assert.equal(Object.values(seen.troubles).reduce((sum, n) => sum + n), 14);
  assert.deepEqual(Object.keys(seen.sessions).toSorted(), ["poll", "sse", "websocket"]);
});
