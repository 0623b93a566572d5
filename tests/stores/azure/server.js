// Azurite's blob service on loopback, in memory, with one empty container. Prints its address, and ends when its
// input does.
"use strict";

const { spawn } = require("node:child_process");
const { createHmac } = require("node:crypto");
const readline = require("node:readline");

// Every Azurite has this account: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const container = "tidegate";

const azurite = spawn(
  process.execPath,
  [
    require.resolve("azurite/dist/src/blob/main.js"),
    ...["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"],
  ],
  { stdio: ["ignore", "pipe", "inherit"] },
);
azurite.on("exit", (code) => process.exit(code ?? 1));
process.on("exit", () => azurite.kill("SIGKILL"));
process.stdin.resume().on("end", () => process.exit(0));

readline.createInterface(azurite.stdout).on("line", async (line) => {
  const [, address] = line.match(/successfully listens on http:\/\/(\S+)/) ?? [];
  if (address) {
    await createContainer(address);
    console.log(address);
  }
});

async function createContainer(address) {
  const path = `/${account}/${container}`;
  const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
  const named = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  // The eleven headers that a signature covers are all absent.
  const signed = `PUT${"\n".repeat(12)}${named.join("")}/${account}${path}\nrestype:container`;
  const signature = createHmac("sha256", Buffer.from(key, "base64")).update(signed).digest("base64");
  const response = await fetch(`http://${address}${path}?restype=container`, {
    method: "PUT",
    headers: { ...headers, Authorization: `SharedKey ${account}:${signature}` },
  });
  if (!response.ok) throw new Error(`the container is not made: ${response.status} ${await response.text()}`);
}
