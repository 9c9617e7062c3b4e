// SPDX-License-Identifier: GPL-3.0-or-later
//
// check.mjs — what llama.cpp computes from converted files, against what the folder should give.
//
//   node check.mjs NODE_LLAMA_CPP < JOBS      one job a line, as JSON; run.sh writes them
//
//   {"kind": "logits", "name", "gguf", "expected", "over": N, "prefix": bool, "allowed": X}
//       expected.safetensors of tests/ref/arch: logits of every position, to X of the largest.
//       Sequences of at most N tokens are left out, and longer ones than the file's context: with
//       prefix they count up to there.
//   {"kind": "tokens", "name", "gguf", "cases", "ids", "ascii": bool}
//       a file of {"text", "ids", "add_special"} lines; those with "text_pair" are left out, with
//       "ascii" those beyond it. "ids": a file that has them, line for line.
//   {"kind": "generate", "name", "gguf", "rows"}
//       what keel generate --raw --json says at temperature 0
//
// Everything runs on the CPU in F32, the cache too. Prints a result line for each job, and how far
// apart the two are, or how near the second token came.
import fs from "fs";
import path from "path";
import {pathToFileURL} from "url";

const lib = await import(pathToFileURL(path.join(process.argv[2], "dist/index.js")));
const llama = await lib.getLlama({gpu: false, build: "never", progressLogs: false,
    logLevel: lib.LlamaLogLevel.error});

function readSafetensors(file) {
    const bytes = fs.readFileSync(file);
    const n = Number(bytes.readBigUInt64LE(0));
    const head = JSON.parse(bytes.toString("utf8", 8, 8 + n));
    return (name) => {
        const {dtype, data_offsets: [a, b]} = head[name];
        const data = Uint8Array.prototype.slice.call(bytes, 8 + n + a, 8 + n + b).buffer;
        return dtype === "I32" ? new Int32Array(data) : new Float32Array(data);
    };
}

const lines = (file) => fs.readFileSync(file, "utf8").split("\n").filter((l) => l)
    .map((l) => JSON.parse(l));

async function withContext(model, size, run) {
    const context = await model.createContext({contextSize: size, batchSize: size, threads: 2,
        flashAttention: false, experimentalKvCacheKeyType: "F32",
        experimentalKvCacheValueType: "F32"});
    try {
        return await run(context.getSequence());
    } finally {
        await context.dispose();
    }
}

// Logits behind each of ids: one Map of id to logit a position.
const logitsOf = (model, ids) => withContext(model, ids.length + 8, async (sequence) =>
    (await sequence.controlledEvaluate(ids.map((id) => [id, {generateNext: {logits: true}}])))
        .map((o) => o.next.logits));

const jobs = {
    async logits(model, job) {
        const tensor = readSafetensors(job.expected);
        const ids = tensor("ids"), offsets = tensor("offsets"), logits = tensor("logits");
        const v = logits.length / ids.length, limit = model.trainContextSize;
        let worst = 0, positions = 0;
        for (let s = 0; s + 1 < offsets.length; s++) {
            const n = offsets[s + 1] - offsets[s];
            if (n <= (job.over ?? 0) || (n > limit && !job.prefix))
                continue;
            const some = Math.min(n, limit);
            const got = await logitsOf(model, [...ids.subarray(offsets[s], offsets[s] + some)]);
            for (let t = 0; t < some; t++, positions++) {
                const want = logits.subarray((offsets[s] + t) * v, (offsets[s] + t + 1) * v);
                const scale = want.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
                for (let i = 0; i < v; i++)
                    worst = Math.max(worst, Math.abs(want[i] - got[t].get(i)) / scale);
            }
        }
        return [positions > 0 && worst <= job.allowed,
            `${positions} positions, largest difference ${worst.toExponential(1)}`];
    },

    async tokens(model, job) {
        const {bos, eos, shouldPrependBosToken, shouldAppendEosToken} = model.tokens;
        const answers = job.ids ? lines(job.ids) : null;
        let n = 0;
        for (const [i, row] of lines(job.cases).entries()) {
            const ids = answers ? answers[i].ids : row.ids;
            if (row.text_pair !== undefined || (job.ascii && !/^[\0-\x7f]*$/.test(row.text)))
                continue;
            const got = [...model.tokenize(row.text, true)];
            if (row.add_special && shouldPrependBosToken)
                got.unshift(bos);
            if (row.add_special && shouldAppendEosToken)
                got.push(eos);
            if (JSON.stringify(got) !== JSON.stringify(ids))
                return [false, `${JSON.stringify(row.text)}: expected ${JSON.stringify(ids)}, got `
                    + JSON.stringify(got)];
            n++;
        }
        return [n > 0, `${n} texts`];
    },

    async generate(model, job) {
        let tokens = 0, nearest = Infinity;
        const rows = lines(job.rows);
        for (const row of rows) {
            const ids = model.tokenize(row.prompt, true), made = [];
            while (made.length < row.tokens) {
                const [[best, high], [, second]] =
                    [...(await logitsOf(model, ids)).pop()].sort((a, b) => b[1] - a[1]);
                nearest = Math.min(nearest, high - second);
                made.push(best);
                ids.push(best);
            }
            tokens += made.length;
            const text = model.detokenize(made, false);
            if (row.ids ? JSON.stringify(row.ids) !== JSON.stringify(made)
                        : text !== row.completion)
                return [false, `${JSON.stringify(row.prompt)}: expected `
                    + `${JSON.stringify(row.ids ?? row.completion)}, got `
                    + JSON.stringify(row.ids ? made : text)];
        }
        return [tokens > 0, `${rows.length} prompts, ${tokens} tokens, the nearest second by `
            + nearest.toPrecision(2)];
    },
};

let failed = 0;
for (const job of fs.readFileSync(0, "utf8").split("\n").filter((l) => l).map(JSON.parse)) {
    console.log(`[ RUN      ] ${job.name}`);
    let ok = false, text = "";
    try {
        const model = await llama.loadModel({modelPath: job.gguf});
        [ok, text] = await jobs[job.kind](model, job);
        await model.dispose();
    } catch (e) {
        text = e.stack;
    }
    console.log(text);
    console.log(ok ? `[       OK ] ${job.name}` : `[  FAILED  ] ${job.name}`);
    failed += ok ? 0 : 1;
}
process.exit(failed ? 1 : 0);
