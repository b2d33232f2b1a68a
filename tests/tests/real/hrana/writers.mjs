// What an application does while nodes go and come: writers with the driver of JavaScript, until their
// standard input ends. Nothing is tried again here.
// node writers.mjs URL TOKEN WRITERS

import { createClient } from "@libsql/client";

const [url, authToken, count] = process.argv.slice(2);
let over = false;
process.stdin.on("end", () => (over = true));
process.stdin.resume();

const errors = [];
const acknowledged = [];
let longest = 0;

async function timed(work) {
    const began = performance.now();
    try {
        return await work();
    } finally {
        longest = Math.max(longest, performance.now() - began);
    }
}

async function write(writer) {
    const client = createClient({ url, authToken });
    for (let number = 0; !over; number += 1) {
        const first = writer * 1_000_000 + number * 2;
        const insert = (id) => ({ sql: "INSERT INTO t VALUES (?, ?, ?)", args: [id, writer, number] });
        try {
            await timed(() => client.execute(insert(first)));
            acknowledged.push(first);
            await timed(() => client.batch([insert(first + 1), "SELECT 1"], "write"));
            acknowledged.push(first + 1);
            const own = { sql: "SELECT count(*) FROM t WHERE writer = ?", args: [writer] };
            const seen = (await timed(() => client.execute(own))).rows[0][0];
            if (seen !== number * 2 + 2) {
                errors.push(`writer ${writer} has written ${number * 2 + 2} rows and reads ${seen}`);
            }
        } catch (error) {
            errors.push(`writer ${writer}, row ${first}: ${error.code} ${error.message}`);
            return;
        }
    }
    client.close();
}

await Promise.all(Array.from({ length: Number(count) }, (_, writer) => write(writer)));
console.log(JSON.stringify({ errors, acknowledged, longest_ms: Math.round(longest) }));
