// SPDX-License-Identifier: GPL-3.0-or-later
//
// make.mjs — parts of model folders for run.sh.
//
//   node make.mjs tokenizer FOLDER       a byte-level tokenizer.json with the vocab_size tokens of
//                                        FOLDER/config.json: letters from "!" on, and one merge
//   node make.mjs model FOLDER VOCAB     config.json and random weights of a tiny Llama
//   node make.mjs pre FOLDER NAME        FOLDER/tokenizer.json with the pre-tokenizer of a model
//   node make.mjs long TEXT IDS          one line of JSON from the files of a long text
import fs from "fs";

const [what, folder, more] = process.argv.slice(2);

function tokenizer() {
    const n = JSON.parse(fs.readFileSync(`${folder}/config.json`)).vocab_size, vocab = {};
    for (let i = 0; i + 1 < n; i++)
        vocab[String.fromCharCode(33 + i)] = i;
    vocab['!"'] = n - 1;
    const level = {type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true};
    fs.writeFileSync(`${folder}/tokenizer.json`, JSON.stringify({
        version: "1.0", truncation: null, padding: null, added_tokens: [], normalizer: null,
        pre_tokenizer: level, post_processor: null, decoder: level,
        model: {type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null,
            end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, vocab,
            merges: ['! "']}}));
}

function model() {
    const V = Number(more), C = 16, F = 24;
    const layer = "model.layers.0.";
    const shapes = {"model.embed_tokens.weight": [V, C], "model.norm.weight": [C],
        "lm_head.weight": [V, C], [`${layer}input_layernorm.weight`]: [C],
        [`${layer}post_attention_layernorm.weight`]: [C],
        [`${layer}self_attn.q_proj.weight`]: [C, C],
        [`${layer}self_attn.k_proj.weight`]: [C, C], [`${layer}self_attn.v_proj.weight`]: [C, C],
        [`${layer}self_attn.o_proj.weight`]: [C, C], [`${layer}mlp.gate_proj.weight`]: [F, C],
        [`${layer}mlp.up_proj.weight`]: [F, C], [`${layer}mlp.down_proj.weight`]: [C, F]};
    const head = {};
    let at = 0;
    for (const name of Object.keys(shapes).sort()) {
        const bytes = 4 * shapes[name].reduce((a, b) => a * b);
        head[name] = {dtype: "F32", shape: shapes[name], data_offsets: [at, at += bytes]};
    }
    let seed = 1;                                       // Park and Miller's generator
    const data = Float32Array.from({length: at / 4}, () =>
        (seed = seed * 48271 % 2147483647) / 2147483647 - 0.5);
    const text = Buffer.from(JSON.stringify(head)), size8 = Buffer.alloc(8);
    const padded = Buffer.concat([text, Buffer.alloc((8 - text.length % 8) % 8, " ")]);
    size8.writeBigUInt64LE(BigInt(padded.length));
    fs.writeFileSync(`${folder}/model.safetensors`,
        Buffer.concat([size8, padded, Buffer.from(data.buffer)]));
    fs.writeFileSync(`${folder}/config.json`, JSON.stringify({
        architectures: ["LlamaForCausalLM"], model_type: "llama", vocab_size: V, hidden_size: C,
        intermediate_size: F, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2,
        max_position_embeddings: 4096, tie_word_embeddings: false, bos_token_id: null,
        eos_token_id: null, torch_dtype: "float32"}));
}

// As their models' files have them.
const CASELESS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const WORDS = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const LETTERS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
const UPPER = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
const LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
const CASED_WORDS = WORDS.replace("[\\r\\n]*", "[\\r\\n/]*");
const pres = {
    llama3: [`${CASELESS}|${LETTERS}|\\p{N}{1,3}|${WORDS}`, true],
    llama3_merging: [`${CASELESS}|${LETTERS}|\\p{N}{1,3}|${WORDS}`, false],
    qwen2: [`${CASELESS}|${LETTERS}|\\p{N}|${WORDS}`, false],
    cl100k: ["'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}|"
        + " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+", false],
    smollm: [null, false],
    tekken: [`${UPPER}*${LOWER}+|${UPPER}+${LOWER}*|\\p{N}|${CASED_WORDS}`, true],
    gpt4o: [`${UPPER}*${LOWER}+${CASELESS}?|${UPPER}+${LOWER}*${CASELESS}?|\\p{N}{1,3}|`
        + CASED_WORDS, false],
};

function pre() {
    const file = `${folder}/tokenizer.json`, json = JSON.parse(fs.readFileSync(file));
    const [regex, ignore] = pres[more];
    json.model.ignore_merges = ignore;
    json.pre_tokenizer = {type: "Sequence", pretokenizers: [
        regex ? {type: "Split", pattern: {Regex: regex}, behavior: "Isolated", invert: false}
            : {type: "Digits", individual_digits: true},
        {type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: !regex}]};
    fs.writeFileSync(file, JSON.stringify(json));
}

function long() {
    console.log(JSON.stringify({text: fs.readFileSync(folder, "utf8"),
        ids: fs.readFileSync(more, "utf8").trim().split(/\s+/).map(Number)}));
}

if (what !== "long")
    fs.mkdirSync(folder, {recursive: true});
({tokenizer, model, pre, long})[what]();
