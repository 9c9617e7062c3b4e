// SPDX-License-Identifier: GPL-3.0-or-later
//
// make_tokenizer.mjs — makes tokenizer.jsonl: ids and texts by Hugging Face tokenizers.
//
//     npm install tokenizers@0.23.2 && node make_tokenizer.mjs > tokenizer.jsonl
//
// The first lines are models ({"model": ...}); then one line a tokenizer: "base" (which model),
// "stages" (the other keys of tokenizer.json), "cases" of [text, ids, ids with the post-processor,
// their text, their text without special tokens]. Every kind of every stage comes alone, then many
// come together at random; the random numbers are the script's own, so the file is the same each
// time. Left out are places where the reference follows its offsets into errors (a Replace that
// matches nothing in front of ByteLevel) or where its Unicode is newer.
import { createRequire } from 'module';
const { Tokenizer } = createRequire(import.meta.url)('tokenizers');

let state = 7;
function random(n) {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) % n;
}
const pick = (v) => v[random(v.length)];
const chance = (percent) => random(100) < percent;

// ---- models ----
const plain = (b) => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
let rest = 256;
const letter = Array.from({ length: 256 }, (_, b) =>
  String.fromCodePoint(plain(b) ? b : rest++));
const letters = (s) => [...Buffer.from(s)].map((b) => letter[b]).join('');
const words = ['the', 'hello', 'world', 'aaaa', 'abab', 'don', '日本', 'при', 'é', '  ', '123',
               'll', 've', "'s", '1234', 'naïve', '▁the', '▁▁▁', '▁hello', ' the', ' hello'];
const marks = { space: (s) => s.replaceAll(' ', '▁'), letters };

function vocabulary(chars, mark, bytes) {
  const tokens = ['<unk>', '<s>', '</s>'], merges = [];
  if (bytes)
    for (let b = 0; b < 256; b++)
      tokens.push(`<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`);
  tokens.push(...chars);
  for (let i = 0; i < 160; i++) {
    const w = [...mark(pick(words))];
    const a = random(w.length), b = a + 1 + random(w.length), c = b + 1 + random(w.length);
    const l = w.slice(a, b).join(''), r = w.slice(b, c).join('');
    if (!l || !r || !tokens.includes(l) || !tokens.includes(r)) continue;
    if (!tokens.includes(l + r)) tokens.push(l + r);
    merges.push([l, r]);
  }
  return { tokens, merges };
}
function bpe(v, rest) {
  return { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null,
           end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false,
           ...rest, vocab: Object.fromEntries(v.tokens.map((t, i) => [t, i])), merges: v.merges };
}
const known = [...new Set('abcdefghijklmnopqrstuvwxyzTHAE0123456789.,-!_<>|▁日本語éïпривет')];
const byteVocabulary = vocabulary(letter, marks.letters, false);
const charVocabulary = vocabulary(known, marks.space, true);
const fewVocabulary = vocabulary(known, marks.space, false);
const strings = byteVocabulary.merges.map((m) => m.join(' '));
const models = [
  { ...bpe(byteVocabulary, {}), merges: strings },
  bpe(charVocabulary, { unk_token: '<unk>', fuse_unk: true, byte_fallback: true }),
  bpe(fewVocabulary, { unk_token: '<unk>', fuse_unk: true }),
  bpe(fewVocabulary, { unk_token: '<unk>', ignore_merges: true }),
  { type: 'Unigram', unk_id: 0, byte_fallback: true,
    vocab: charVocabulary.tokens.map((t, i) => [t, i < 3 ? 0 : -(random(900) + 1) / 100]) },
  { type: 'Unigram', unk_id: 0, byte_fallback: false,
    vocab: fewVocabulary.tokens.map((t, i) => [t, i < 3 ? 0 : -random(4)]) },
];
const sizes = [byteVocabulary, charVocabulary, fewVocabulary, fewVocabulary, charVocabulary,
               fewVocabulary].map((v) => v.tokens.length);

// ---- texts ----
const pieces = ['the', ' the', 'hello', ' hello', ' ', '  ', '   ', '\n', '\n\n', '\t', "don't",
  "I'LL", "we've", 'aaaa', 'abab', '1234', '3.14', '-', '--', '.', '!', '_', '日本語', 'привет',
  'é', 'e\u0301', 'naïve', 'Ångström', 'İ', 'ſ', 'straße', 'ﬁ', '½', '²', '٣', 'Ⅷ', 'Ｆ', '한국',
  '\u1112\u1161\u11ab', '😀', '👨‍👩‍👧', '\u00a0', '\u3000', '\u2028', '\u180e', '\u200b', '\u0323',
  '▁', '<s>', '</s>', '<unk>', '<M>', '<M', ' <M> ', 'qux', 'qux1', '_qux', '<0x0A>', '“', '…',
  '$', '+', '\r\n', '\u0000', '\u007f', 'ก็', 'क्ष', 'ABC', 'camelCase'];
function text() {
  let s = '';
  for (let n = random(9); n >= 0; n--) s += pick(pieces);
  return s;
}

// ---- stages ----
const on = (type, rest) => ({ type, ...rest });

/* SentencePiece's charsmap: a double array over the keys, and the replacements. */
function charsmap(entries) {
  const root = new Map(), unit = new Map([[0, 0]]), to = [];
  let length = 0;
  for (const [key, value] of entries) {
    let node = root;
    for (const b of Buffer.from(key)) node = node.get(b) ?? node.set(b, new Map()).get(b);
    node.set(0, length);
    to.push(Buffer.from(value + '\0'));
    length += to.at(-1).length;
  }
  (function place(at, node) {
    let base = 1;
    while ([...node.keys()].some((b) => unit.has(base ^ b))) base++;
    unit.set(at, unit.get(at) | (at ^ base) << 10 | (node.has(0) ? 256 : 0));
    for (const [b, child] of node) unit.set(base ^ b, b ? b : child | 1 << 31);
    for (const [b, child] of node) if (b) place(base ^ b, child);
  })(0, root);
  const trie = Buffer.alloc(4 * 256 * Math.ceil((Math.max(...unit.keys()) + 1) / 256));
  for (const [i, u] of unit) trie.writeUInt32LE(u >>> 0, 4 * i);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(trie.length);
  return on('Precompiled', { precompiled_charsmap:
    Buffer.concat([size, trie, ...to]).toString('base64') });
}
const normalizers = [
  on('NFC'), on('NFD'), on('NFKC'), on('NFKD'), on('Lowercase'), on('StripAccents'), on('Nmt'),
  on('Strip', { strip_left: true, strip_right: true }),
  on('Strip', { strip_left: true, strip_right: false }),
  on('Replace', { pattern: { String: ' ' }, content: '▁' }),
  on('Replace', { pattern: { String: 'the' }, content: '' }),
  on('Replace', { pattern: { Regex: ' {2,}' }, content: ' ' }),
  on('Replace', { pattern: { Regex: '[aeiou]|\\d' }, content: 'xy' }),
  on('Prepend', { prepend: '▁' }),
  on('Sequence', { normalizers: [on('Prepend', { prepend: '▁' }),
    on('Replace', { pattern: { String: ' ' }, content: '▁' })] }),
  on('Sequence', { normalizers: [on('NFKD'), on('StripAccents'), on('Lowercase')] }),
];
const patterns = [
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" +
    '| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
  '\\s', '\\S+', '\\w+', '\\W', '[\\w-]+', '[^\\W\\d]', '\\d{1,3}(?=(\\d{3})*\\b)', '\\s+$', '^.',
  '(?m)e.t', '.', '[a-z&&[^aeiou]]+', '[^(\\s|[.,!?…])]+', '\\h+', '\\bt', '\\B', '[[:punct:]]',
  '[^[:space:]]+', '[[:alpha:]_]+', 'a{,2}', 'a{2}+', 'a{2}?', '\\p{Han}+|\\p{Hiragana}', '\\p{^L}',
  'x*', '(?=[A-Z])', '(?<=\\s)', '\\v|\\t', '(?i)É|İ|k', '[\\]\\-a]+', '[一-龥぀-ヿ]+', '(\\p{L})\\1',
];
const behaviors = ['Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];
const split = (regex, behavior, invert) =>
  on('Split', { pattern: { Regex: regex }, behavior, invert });
const byteLevel = (prefix, regex) =>
  on('ByteLevel', { add_prefix_space: prefix, trim_offsets: true, use_regex: regex });
const metaspace = (scheme, cut) =>
  on('Metaspace', { replacement: '▁', prepend_scheme: scheme, split: cut });
const cutters = [
  ...patterns.map((p, i) => split(p, behaviors[i % 5], i % 3 === 2)),
  ...behaviors.flatMap((b) => [false, true].map((invert) =>
    on('Split', { pattern: { String: '-' }, behavior: b, invert }))),
  on('Digits', { individual_digits: true }), on('Digits', { individual_digits: false }),
  ...behaviors.map((behavior) => on('Punctuation', { behavior })),
  on('Whitespace'), on('WhitespaceSplit'), on('BertPreTokenizer'),
  on('CharDelimiterSplit', { delimiter: ' ' }),
  ...['always', 'first', 'never'].flatMap((s) => [metaspace(s, true), metaspace(s, false)]),
];
const replaceMark = on('Replace', { pattern: { String: '▁' }, content: ' ' });
const strip = (content, start, stop) => on('Strip', { content, start, stop });
const decoders = [
  null, on('ByteLevel', { add_prefix_space: true, trim_offsets: true, use_regex: true }),
  on('ByteFallback'), on('Fuse'), replaceMark, strip('▁', 1, 0), metaspace('always', true),
  metaspace('never', true), on('Replace', { pattern: { Regex: '[aeiou]+' }, content: '*' }),
  on('Sequence', { decoders: [replaceMark, on('ByteFallback'), on('Fuse'), strip(' ', 1, 0)] }),
  on('Sequence', { decoders: [on('ByteFallback'), on('Fuse'), strip(' ', 2, 0), replaceMark] }),
  on('Sequence', { decoders: [on('ByteFallback'), metaspace('first', true)] }),
];
const special = (id) => ({ SpecialToken: { id, type_id: 0 } });
const sequence = (id) => ({ Sequence: { id, type_id: 0 } });
const tokens = { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] },
                 x: { id: 'x', ids: [2, 1], tokens: ['</s>', '<s>'] } };
const template = on('TemplateProcessing', { single: [special('<s>'), sequence('A'), special('x')],
  pair: [sequence('A'), sequence('B')], special_tokens: tokens });
const posts = [
  null, template, on('RobertaProcessing', { sep: ['</s>', 2], cls: ['<s>', 1], trim_offsets: true,
                                            add_prefix_space: true }),
  on('BertProcessing', { sep: ['</s>', 2], cls: ['<s>', 1] }),
  on('Sequence', { processors: [byteLevel(true, true), template] }), byteLevel(true, true),
];
function added(base, normalized) {
  const out = [];
  let next = sizes[base];
  for (const content of ['<s>', '</s>', '<M>', '<M', 'qux', '  ', '\n\n', 'the', 'é']) {
    if (chance(45)) continue;
    const at = models[base].type === 'BPE' ? models[base].vocab[content]
      : models[base].vocab.findIndex((p) => p[0] === content);
    out.push({ id: at >= 0 ? at : next, content, single_word: chance(25), lstrip: chance(25),
               rstrip: chance(25), normalized: normalized && chance(40), special: chance(50) });
    if (!(at >= 0)) next++;
  }
  return out.sort((a, b) => a.id - b.id);
}

// ---- the file ----
const line = (o) => console.log(JSON.stringify(o).replace(/[\u007f-\u009f\u2028\u2029]/g,
  (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0')));
async function tokenizer(base, stages, texts) {
  const json = { version: '1.0', truncation: null, padding: null, ...stages, model: models[base] };
  const t = Tokenizer.fromString(JSON.stringify(json)), cases = [];
  for (const s of texts) {
    const a = (await t.encode(s, null, { addSpecialTokens: false })).getIds();
    const b = (await t.encode(s, null, { addSpecialTokens: true })).getIds();
    cases.push([s, a, b, await t.decode(b, false), await t.decode(b, true)]);
  }
  line({ base, stages, cases });
}
const texts = (n) => Array.from({ length: n }, text);
const stages = (o) => ({ added_tokens: [], normalizer: null, pre_tokenizer: null,
                         post_processor: null, decoder: null, ...o });
for (const model of models) line({ model });
for (const n of normalizers) await tokenizer(1, stages({ normalizer: n }), texts(4));
await tokenizer(1, stages({ normalizer: on('ByteLevel') }), texts(4));
await tokenizer(1, stages({ normalizer: charsmap([['\u3000', ' '], ['ﬁ', 'fi'], ['e\u0301', 'é'],
  ['\r', ' '], ['\r\n', 'xx'], ['½', '1/2'], ['\t', ' '], ['\u200b', ''], ['th', '!'],
  ['Ⅷ', 'VIII'], ['한', '한']]) }), ['\r\n \r', 'e\u0301e\u0301\u0301 the\tﬁ', ...texts(12)]);
for (const c of cutters) await tokenizer(3, stages({ pre_tokenizer: c }), texts(2));
for (const p of [byteLevel(true, true), byteLevel(false, true), byteLevel(true, false)])
  await tokenizer(0, stages({ pre_tokenizer: p, decoder: decoders[1] }), texts(4));
for (const d of decoders)
  await tokenizer(1, stages({ normalizer: normalizers[14], decoder: d }), texts(4));
for (const p of posts) await tokenizer(2, stages({ post_processor: p }), texts(2));
for (let i = 0; i < 60; i++) {
  const base = i % models.length, bytes = base === 0;
  const n = chance(50) ? null : bytes ? pick(normalizers.slice(0, 5)) : pick(normalizers);
  const cut = () => [...(chance(50) ? [pick(cutters.slice(0, -6))] : []),
                     ...(bytes ? [byteLevel(chance(30), chance(50))] : []),
                     ...(chance(20) ? [on('Digits', { individual_digits: chance(50) })] : []),
                     ...(!bytes && chance(40) ? [pick(cutters.slice(-6))] : [])];
  const steps = cut();
  await tokenizer(base, stages({
    added_tokens: added(base, !n || n.type === 'NFC'), normalizer: n,
    pre_tokenizer: steps.length > 1 ? on('Sequence', { pretokenizers: steps }) : steps[0] ?? null,
    post_processor: pick(posts), decoder: bytes ? decoders[1] : pick(decoders) }), texts(4));
}
