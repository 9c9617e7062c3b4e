/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_safetensors.c — the reader against every defect of the format, the writer byte for byte.
 */
#include "tests/helper.h"

#include "ckpt/safetensors.h"

#include <math.h>
#include <sys/stat.h>

/* Without file_write's syncs: hundreds of files are written here. */
static void write_bytes(const char *path, const void *data, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* u64 LE of the header's length, the header, then `zeros` bytes of data. */
static const char *make_file(const char *name, const char *header, size_t zeros) {
    struct str b = {0};
    const size_t n = strlen(header);
    for (int i = 0; i < 8; i++)
        str_addc(&b, (char)((uint64_t)n >> (8 * i) & 255));
    str_add(&b, header);
    for (size_t i = 0; i < zeros; i++)
        str_addc(&b, '\0');
    const char *path = test_path(name);
    write_bytes(path, b.s, b.len);
    str_release(&b);
    return path;
}

/* ---- reading ---- */

#define E(dtype, shape, offsets)                                                                \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define PLAIN E("I32", "[2,2]", "[0,16]")

static const struct {
    const char *header;
    size_t zeros;
    int tensors;                            /* -1: an error that contains `says` */
    const char *says;
} headers[] = {
    {PLAIN, 16, 1, NULL},
    {E("I32", "[]", "[0,4]"), 4, 1, NULL},
    {E("I32", "[2,0]", "[0, 0]"), 0, 1, NULL},
    {E("F4", "[1,2]", "[0,1]"), 1, 1, NULL},
    {E("F32", "[1,1,1,1,1,1,1,1]", "[0,4]"), 4, 1, NULL},
    {"{}\r \t\n", 0, 0, NULL},
    {"\t\n{}\r ", 0, 0, NULL},
    {"{\"__metadata__\":null}", 0, 0, NULL},
    {"{\"__metadata__\":{\"a\":\"b\"},\"t\":{\"shape\":[1],\"x\":{\"y\":[1]},\"dtype\":\"U8\","
     "\"data_offsets\":[0,1]}}", 1, 1, NULL},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[1,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 4, 2, NULL},
    {E("F32", "[0,9223372036854775807]", "[0,0]"), 0, 1, NULL},
    {"{\"\\ud83d\\ude00\\u00e9\\n\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
     0, 1, NULL},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[ 1 ],\"data_offsets\":[0 , 1],\"x\":99999999999999999999,"
     "\"x\":-0.5e+9,\"y\":\"\\u0000\",\"z\":[true,false,null,{}]}}", 1, 1, NULL},
    {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, 0, NULL},
    {PLAIN, 17, -1, "trailing"},
    {PLAIN, 14, -1, "cut short"},
    {"{", 0, -1, "ends early"},
    {"", 0, -1, "ends early"},
    {"[]", 0, -1, "invalid JSON"},
    {"\xff", 0, -1, "UTF-8"},
    {"{\"\xff\":1}", 0, -1, "byte 2: not UTF-8"},
    {"{\"\xc0\xaf\":1}", 0, -1, "not UTF-8"},
    {"{\"\xed\xa0\x80\":1}", 0, -1, "not UTF-8"},
    {"{\"\xf4\x90\x80\x80\":1}", 0, -1, "not UTF-8"},
    {"{\"\xe2\x82", 0, -1, "not UTF-8"},
    {"\xef\xbb\xbf{}", 0, -1, "invalid JSON"},
    {"{\"a\":01}", 0, -1, "invalid JSON"},
    {"{\"a\":.5}", 0, -1, "invalid JSON"},
    {"{\"a\":1.}", 0, -1, "invalid JSON"},
    {"{\"a\":1e}", 0, -1, "invalid JSON"},
    {"{\"a\":nul}", 0, -1, "invalid JSON"},
    {"{\"a\":\"\n\"}", 0, -1, "invalid JSON"},
    {"{\"a\":\"\\x\"}", 0, -1, "invalid JSON"},
    {"{\"a\":\"\\u12g4\"}", 0, -1, "hexadecimal"},
    {"{\"a\":\"", 0, -1, "ends early"},
    {"{a:1}", 0, -1, "invalid JSON"},
    {"{\"a\" 1}", 0, -1, "invalid JSON"},
    {"{\"t\":{\"x\":[1,]}}", 0, -1, "invalid JSON"},
    {"{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, -1, "U+0000"},
    {"{}x", 0, -1, "blanks only"},
    {"{\"t\":1}", 0, -1, "expected an object"},
    {"{\"t\":{}}", 0, -1, "dtype is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, -1, "data_offsets is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, -1, "shape is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, -1,
     "dtype is given twice"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, -1, "twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, -1, "twice"},
    {"{\"__metadata__\":{\"a\":1}}", 0, -1, "expected a string"},
    {"{\"__metadata__\":[]}", 0, -1, "object of strings"},
    {"{\"\\ud800\":1}", 0, -1, "lone surrogate"},
    {"{\"\\udc00\":1}", 0, -1, "lone surrogate"},
    {"{\"\\ud800\\u0041\":1}", 0, -1, "lone surrogate"},
    {"{\"a\":1,}", 0, -1, "expected an object"},
    {E("f32", "[1]", "[0,4]"), 4, -1, "dtype: expected one of BOOL"},
    {E("F32", "[1.0]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[-1]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[\"1\"]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[1e0]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[-0]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[[1]]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[18446744073709551616]", "[0,4]"), 4, -1, "non-negative integers below 2^64"},
    {E("F32", "null", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[1]", "[0,4.0]"), 4, -1, "two non-negative"},
    {E("F32", "[1]", "null"), 4, -1, "two non-negative"},
    {E("F32", "[1]", "[0,18446744073709551615]"), 4, -1, "span 18446744073709551615 bytes"},
    {E("F32", "[1]", "[18446744073709551615,3]"), 4, -1, "hole"},
    {E("F32", "[0,9223372036854775808]", "[0,0]"), 0, -1, "dimensions end at 2^63 - 1"},
    {E("F32", "[4611686018427387904]", "[0,4]"), 4, -1, "overflow"},
    {E("F6_E2M3", "[3]", "[0,2]"), 2, -1, "misaligned"},
    /* the order of the reference's checks: text before data, ranges before sizes */
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2,18446744073709551614],\"data_offsets\":[9,1]},}",
     0, -1, "invalid JSON"},
    {E("F32", "[2,18446744073709551614]", "[4,20]"), 20, -1, "hole"},
    {E("F32", "[null]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "1", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, -1, "at most 8"},
    {E("F32", "[1]", "[0]"), 4, -1, "two non-negative"},
    {E("F32", "[1]", "[0,2,4]"), 4, -1, "two non-negative"},
    {E("F32", "[1]", "[4,0]"), 4, -1, "hole"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}", 8, -1, "ends before it"},
    {E("F32", "[1]", "[4,8]"), 8, -1, "hole"},
    {E("I32", "[2,2]", "[0,4]"), 4, -1, "expected 16"},
    {E("F4", "[1,3]", "[0,2]"), 2, -1, "misaligned"},
    {E("I32", "[2,18446744073709551614]", "[0,16]"), 16, -1, "overflow"},
    {E("I32", "[2,9223372036854775807]", "[0,16]"), 16, -1, "overflow"},
    {E("I32", "[4294967296,4294967296,0]", "[0,0]"), 0, -1, "overflow"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, -1, "overlap"},
};

static void headers_are_judged(void **state) {
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        struct err e = {0};
        const char *path = make_file("h.safetensors", headers[i].header, headers[i].zeros);
        struct st *st = st_open(path, &e);
        if (headers[i].tensors < 0) {
            if (st)
                fail_msg("accepted: %s", headers[i].header);
            assert_contains(e.msg, headers[i].says);
            assert_contains(e.msg, "h.safetensors: ");
        } else {
            if (!st)
                fail_msg("%s: %s", headers[i].header, e.msg);
            assert_int_equal(st_count(st), headers[i].tensors);
        }
        st_close(st);
    }
}

static void lengths_are_judged(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *says;
    } cases[] = {
        {"", 0, "too small"},
        {"\x3c\0\0\0\0\0\0", 7, "too small"},
        {"\x3c\0\0\0\0\xff\xff\xff{}", 10, "too large"},
        {"\x3c\0\0\0\0\0\0\0", 8, "invalid header length"},
        {"\xe8\3\0\0\0\0\0\0{}", 10, "invalid header length"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "git lfs pull"},
        {"\1\0\0\0\0\0\0\0\xff", 9, "UTF-8"},
        {"\2\0\0\0\0\0\0\0{\0", 10, "invalid JSON"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct err e = {0};
        const char *path = test_path("l.safetensors");
        write_bytes(path, cases[i].bytes, cases[i].n);
        assert_null(st_open(path, &e));
        assert_contains(e.msg, cases[i].says);
    }
    struct err e = {0};
    assert_null(st_open(test_dir(), &e));
    assert_contains(e.msg, "directory");
    assert_null(st_open(test_path("none.safetensors"), &e));
    assert_contains(e.msg, "cannot open");
}

static void deep_json_is_refused(void **state) {
    (void)state;
    static const struct {
        int levels;
        bool ok;
    } cases[] = {{100, true}, {126, true}, {127, false}, {1000, false}, {100000, false}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct str b = {0};
        struct err e = {0};
        str_add(&b, "{\"t\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":");
        for (int k = 0; k < cases[i].levels; k++)
            str_addc(&b, '[');
        for (int k = 0; k < cases[i].levels; k++)
            str_addc(&b, ']');
        str_add(&b, "}}");
        struct st *st = st_open(make_file("deep.safetensors", b.s, 0), &e);
        assert_int_equal(st != NULL, cases[i].ok);
        st_close(st);
        str_release(&b);
    }
}

static void many_entries_on_one_range(void **state) {
    (void)state;
    struct str b = {0};
    struct err e = {0};
    for (int i = 0; i < 100000; i++)
        str_addf(&b, "%s\"w%d\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}",
                 i ? "," : "{", i);
    str_addc(&b, '}');
    const double start = now_seconds();
    assert_null(st_open(make_file("many.safetensors", b.s, 16), &e));
    assert_contains(e.msg, "overlap");
    assert_true(now_seconds() - start < 2);
    str_release(&b);
}

/* The data of a polyglot: another file's text behind the last tensor. */
static void nothing_may_follow(void **state) {
    (void)state;
    struct str b = {0};
    struct err e = {0};
    str_addn(&b, "\x3c\0\0\0\0\0\0\0", 8);
    str_add(&b, "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}");
    str_addn(&b, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    const char *path = test_path("poly.safetensors");
    write_bytes(path, b.s, b.len);
    struct st *st = st_open(path, &e);
    assert_non_null(st);
    st_close(st);
    str_add(&b, "extra_bogus_data_for_polyglot_file");
    write_bytes(path, b.s, b.len);
    assert_null(st_open(path, &e));
    assert_contains(e.msg, "trailing");
    str_release(&b);
}

/* Many small texts in a small file: the time and memory of a header follow its length. */
static void many_metadata_pairs(void **state) {
    (void)state;
    struct str b = {0};
    struct err e = {0};
    for (int i = 0; i < 200000; i++)
        str_addf(&b, "%s\"k%d\":\"\"", i ? "," : "{\"__metadata__\":{", i);
    str_add(&b, ",\"k7\":\"last\"}}");
    const double start = now_seconds();
    struct st *st = st_open(make_file("meta.safetensors", b.s, 0), &e);
    assert_non_null(st);
    assert_string_equal(st_meta(st, "k7"), "last");
    assert_true(now_seconds() - start < 2);
    st_close(st);
    str_release(&b);
}

static void every_cut_is_an_error(void **state) {
    (void)state;
    const char *whole = make_file("whole.safetensors", PLAIN, 16);
    struct err e = {0};
    size_t n;
    char *bytes = file_read(whole, &n, &e);
    assert_non_null(bytes);
    const char *cut = test_path("cut.safetensors");
    for (size_t k = 0; k < n; k++) {
        write_bytes(cut, bytes, k);
        struct st *st = st_open(cut, &e);
        assert_null(st);
    }
    for (size_t k = 0; k < n; k++) {        // any flipped byte: an error or a sound file, no crash
        bytes[k] ^= 0x15;
        write_bytes(cut, bytes, n);
        struct st *st = st_open(cut, &e);
        for (int i = 0; st && i < st_count(st); i++)
            assert_true(st_at(st, i)->begin + st_at(st, i)->bytes + st_header_bytes(st) <= n);
        st_close(st);
        bytes[k] ^= 0x15;
    }
    free(bytes);
}

/* ---- writing ---- */

struct want {
    const char *name;
    enum dtype dtype;
    int ndim;
    int64_t shape[4];
};
static const struct {
    struct want t[2];
    int n;
    const char *meta[2];
    uint64_t length;
    const char *header;
    size_t data;
} written[] = {
    {{{"attn.0", DTYPE_F32, 3, {1, 2, 3}}}, 1, {NULL}, 64,
     "{\"attn.0\":{\"dtype\":\"F32\",\"shape\":[1,2,3],\"data_offsets\":[0,24]}}", 24},
    {{{"attn0", DTYPE_F32, 4, {1, 1, 2, 3}}}, 1, {NULL}, 72,
     "{\"attn0\":{\"dtype\":\"F32\",\"shape\":[1,1,2,3],\"data_offsets\":[0,24]}}       ", 24},
    {{{"attn.0", DTYPE_F4, 2, {1, 2}}}, 1, {NULL}, 64,
     "{\"attn.0\":{\"dtype\":\"F4\",\"shape\":[1,2],\"data_offsets\":[0,1]}}    ", 1},
    {{{NULL}}, 0, {NULL}, 8, "{}      ", 0},
    {{{NULL}}, 0, {"framework", "pt"}, 40, "{\"__metadata__\":{\"framework\":\"pt\"}}     ", 0},
    {{{"test1", DTYPE_I32, 2, {2, 2}}, {"test2", DTYPE_F16, 2, {2, 2}}}, 2, {NULL}, 128,
     "{\"test1\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
     "\"test2\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[16,24]}}      ", 24},
    {{{"test2", DTYPE_F16, 2, {2, 2}}, {"test1", DTYPE_I32, 2, {2, 2}}}, 2, {NULL}, 128,
     "{\"test1\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
     "\"test2\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[16,24]}}      ", 24},
    {{{"test1", DTYPE_I32, 2, {2, 2}}}, 1, {"framework", "pt"}, 96,
     "{\"__metadata__\":{\"framework\":\"pt\"},"
     "\"test1\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}} ", 16},
    {{{"a\"\\\n\x01", DTYPE_U8, 1, {1}}}, 1, {NULL}, 72,
     "{\"a\\\"\\\\\\n\\u0001\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}       ", 1},
};

static void bytes_are_the_reference_writers(void **state) {
    (void)state;
    static const float data[6] = {0, 1, 2, 3, 4, 5};
    for (size_t i = 0; i < ARRAY_LEN(written); i++) {
        struct st_writer *w = st_writer_new();
        struct err e = {0};
        const char *path = test_path("w.safetensors");
        if (written[i].meta[0])
            st_writer_meta(w, written[i].meta[0], written[i].meta[1]);
        for (int k = 0; k < written[i].n; k++) {
            const struct want *t = &written[i].t[k];
            st_writer_add(w, t->name, t->dtype, t->ndim, t->shape, data);
        }
        assert_ok(st_save(w, path, &e), &e);
        st_writer_free(w);
        size_t n;
        char *got = file_read(path, &n, &e);
        assert_non_null(got);
        assert_int_equal(n, 8 + written[i].length + written[i].data);
        assert_int_equal((unsigned char)got[0], written[i].length);
        assert_memory_equal(got + 8, written[i].header, written[i].length);
        if (i == 0)
            assert_memory_equal(got + 72, data, sizeof data);
        free(got);
        struct st *st = st_open(path, &e);
        assert_non_null(st);
        assert_int_equal(st_count(st), written[i].n);
        assert_int_equal(st_meta_count(st), written[i].meta[0] != NULL);
        st_close(st);
    }
}

static void failing_writes_leave_nothing(void **state) {
    (void)state;
    struct err e = {0};
    struct st_writer *w = st_writer_new();
    st_writer_add(w, "t", DTYPE_F4, 2, (const int64_t[]){1, 3}, "\0\0");
    assert_int_equal(st_save(w, test_path("bad.safetensors"), &e), -1);
    assert_contains(e.msg, "misaligned");
    assert_false(path_exists(test_path("bad.safetensors")));
    st_writer_free(w);

    w = st_writer_new();
    assert_int_equal(st_save(w, test_path("nowhere/x.safetensors"), &e), -1);
    assert_contains(e.msg, "nowhere/x.safetensors");

    const size_t n = 100000000;
    char *long_text = xmalloc(n + 1);
    memset(long_text, 'a', n);
    long_text[n] = '\0';
    st_writer_meta(w, "k", long_text);
    free(long_text);
    assert_int_equal(st_save(w, test_path("bad.safetensors"), &e), -1);
    assert_contains(e.msg, "header too large");
    assert_false(path_exists(test_path("bad.safetensors")));
    assert_false(path_exists(test_path("bad.safetensors.tmp")));
    st_writer_free(w);
}

static void saving_over_the_mapped_source(void **state) {
    (void)state;
    struct err e = {0};
    const char *path = test_path("over.safetensors");
    static const int32_t v[4] = {7, -8, 9, 1 << 30};
    struct st_writer *w = st_writer_new();
    st_writer_add(w, "v", DTYPE_I32, 1, (const int64_t[]){4}, v);
    assert_ok(st_save(w, path, &e), &e);
    st_writer_free(w);
    struct st *st = st_open(path, &e);
    assert_non_null(st);
    w = st_writer_new();
    st_writer_meta(w, "moved", "yes");      // another header length: every byte of data moves
    st_writer_add(w, "v", DTYPE_I32, 1, (const int64_t[]){4}, st_data(st, st_find(st, "v")));
    assert_ok(st_save(w, path, &e), &e);
    assert_memory_equal(st_data(st, st_find(st, "v")), v, sizeof v);
    st_writer_free(w);
    st_close(st);
    st = st_open(path, &e);
    assert_non_null(st);
    assert_string_equal(st_meta(st, "moved"), "yes");
    assert_memory_equal(st_data(st, st_find(st, "v")), v, sizeof v);
    st_close(st);
}

/* Random sets over all dtypes: round trip, order, alignment. */
static void round_trips(void **state) {
    (void)state;
    struct rng *r = rng_new(1);
    char *data = xmalloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++)
        data[i] = (char)rng_below(r, 256);
    for (int round = 0; round < 60; round++) {
        struct st_writer *w = st_writer_new();
        struct want t[7];
        int64_t shapes[7][7];
        char names[7][32];
        const int n = 1 + (int)rng_below(r, 7);
        for (int k = 0; k < n; k++) {
            t[k].dtype = (enum dtype)rng_below(r, DTYPE_COUNT);
            t[k].ndim = 1 + (int)rng_below(r, 7);
            snprintf(names[k], sizeof names[k], "t.%d.%d", (int)rng_below(r, 1000), k);
            for (int d = 0; d < t[k].ndim; d++)
                shapes[k][d] = 1 + (int64_t)rng_below(r, 3);
            shapes[k][0] *= 4;              // whole bytes for 4- and 6-bit dtypes
            st_writer_add(w, names[k], t[k].dtype, t[k].ndim, shapes[k], data + k);
        }
        struct err e = {0};
        const char *path = test_path("rt.safetensors");
        assert_ok(st_save(w, path, &e), &e);
        st_writer_free(w);
        struct st *st = st_open(path, &e);
        assert_non_null(st);
        assert_int_equal(st_count(st), n);
        for (int k = 0; k < n; k++) {
            const struct st_entry *en = st_find(st, names[k]);
            const size_t bits = (size_t)dtype_table[t[k].dtype].bits;
            assert_non_null(en);
            assert_int_equal(en->dtype, t[k].dtype);
            assert_int_equal(en->ndim, t[k].ndim);
            assert_memory_equal(en->shape, shapes[k], (size_t)t[k].ndim * sizeof(int64_t));
            assert_int_equal(en->bytes * 8, en->count * bits);
            assert_memory_equal(st_data(st, en), data + k, en->bytes);
            if (bits >= 8)
                assert_int_equal((st_header_bytes(st) + en->begin) % (bits / 8), 0);
        }
        for (int k = 1; k < n; k++)
            assert_true(st_at(st, k - 1)->dtype >= st_at(st, k)->dtype);
        assert_null(st_find(st, "t"));
        st_close(st);
    }
    free(data);
    rng_free(r);
}

/* Every dtype that holds real numbers: out of real and back, in chunks. */
static void reals_convert(void **state) {
    (void)state;
    enum { N = 700001 };
    real *v = xcalloc(N, sizeof *v), *back = xcalloc(N, sizeof *back);
    struct rng *r = rng_new(2);
    for (int i = 0; i < N; i++)
        v[i] = (real)(int)rng_below(r, 17) - 8;         // exact in every one of them, but E5M2
    struct st_writer *w = st_writer_new();
    int kinds = 0;
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (dtype_table[d].can_compute) {
            st_writer_add_real(w, dtype_table[d].name, (enum dtype)d, 1, (const int64_t[]){N}, v);
            kinds++;
        }
    assert_int_equal(kinds, 8);
    struct err e = {0};
    assert_ok(st_save(w, test_path("real.safetensors"), &e), &e);
    st_writer_free(w);
    struct st *st = st_open(test_path("real.safetensors"), &e);
    assert_non_null(st);
    for (int i = 0; i < st_count(st); i++) {
        const struct st_entry *en = st_at(st, i);
        const bool coarse = en->dtype == DTYPE_F8_E5M2 || en->dtype == DTYPE_F8_E5M2FNUZ;
        memset(back, 0, N * sizeof *back);
        st_read(st, en, back);
        for (int k = 0; k < N; k++)
            if (back[k] != v[k] && !(coarse && fabs((double)(back[k] - v[k])) == 1))
                fail_msg("%s: [%d] is %g, not %g", en->name, k, (double)back[k], (double)v[k]);
        st_read_some(st, en, N - 5, back, 5);
        assert_true(back[4] == v[N - 1] || coarse);
        st_drop(st, en, 0, en->count);      // reading again gives the same
        st_read_some(st, en, 1, back, 1);
        assert_true(back[0] == v[1] || coarse);
    }
    st_close(st);
    free(v);
    free(back);
    rng_free(r);
}

/* ---- numbers: every code of the small dtypes against their definitions ---- */

static double defined_value(enum dtype d, unsigned code) {
    const bool fnuz = d == DTYPE_F8_E4M3FNUZ || d == DTYPE_F8_E5M2FNUZ;
    const int man = d == DTYPE_F8_E4M3 || d == DTYPE_F8_E4M3FNUZ ? 3 : 2;
    const int bias = (1 << (6 - man)) - 1 + fnuz;
    const unsigned exp = (code & 127) >> man, m = code & ((1u << man) - 1);
    const double sign = code & 128 ? -1 : 1;
    if (fnuz ? code == 128 : d == DTYPE_F8_E4M3 ? (code & 127) == 127 : exp == 31 && m)
        return NAN;
    if (d == DTYPE_F8_E5M2 && exp == 31)
        return sign * (double)INFINITY;
    return sign * (exp ? (1 + m / pow(2, man)) * pow(2, (int)exp - bias)
                       : m / pow(2, man) * pow(2, 1 - bias));
}

static const enum dtype small_dtypes[] = {DTYPE_F8_E5M2, DTYPE_F8_E4M3, DTYPE_F8_E4M3FNUZ,
                                          DTYPE_F8_E5M2FNUZ};

static void small_floats_are_as_defined(void **state) {
    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(small_dtypes); k++)
        for (unsigned c = 0; c < 256; c++) {
            const uint8_t code = (uint8_t)c;
            uint8_t back;
            real v;
            dtype_read(small_dtypes[k], &code, &v, 1);
            const double want = defined_value(small_dtypes[k], c);
            if (isnan(want) ? !isnan(v) : (double)v != want || !signbit(v) != !signbit(want))
                fail_msg("%s %02x: %g, not %g", dtype_table[small_dtypes[k]].name, c, (double)v,
                         want);
            dtype_write(small_dtypes[k], &v, &back, 1);
            if (!isnan(want))
                assert_int_equal(back, code);
        }
}

/* The nearest of all codes, the even one of two; beyond the largest by half a step: no number. */
static void small_floats_round_to_nearest_even(void **state) {
    (void)state;
    struct rng *r = rng_new(3);
    for (int i = 0; i < 20000; i++) {
        const enum dtype d = small_dtypes[i % 4];
        real x = (real)ldexp(rng_normal(r), (int)rng_below(r, 36) - 20);
        double largest = 0, step = 0, best = INFINITY;
        uint8_t got, nearest = 0;
        if (i % 3 == 0) {                   // half way between two codes
            const unsigned c = (unsigned)rng_below(r, 120);
            x = (real)(defined_value(d, c) + defined_value(d, c + 1)) / 2;
        }
        for (unsigned c = 0; c < 128; c++) {
            const double v = defined_value(d, c), off = fabs(fabs((double)x) - v);
            if (!isfinite(v))
                continue;
            step = v - largest;
            largest = v;
            if (off < best || (off == best && c % 2 == 0)) {
                best = off;
                nearest = (uint8_t)c;
            }
        }
        dtype_write(d, &x, &got, 1);
        if (fabs((double)x) > largest + step / 2) {
            assert_false(isfinite(defined_value(d, got)));
            continue;
        }
        if (fabs((double)x) == largest + step / 2)
            continue;
        const bool no_sign = nearest == 0 && (d == DTYPE_F8_E4M3FNUZ || d == DTYPE_F8_E5M2FNUZ);
        assert_int_equal(got, nearest | (x < 0 && !no_sign ? 0x80 : 0));
    }
    rng_free(r);
}

static void halves_return_to_their_bits(void **state) {
    (void)state;
    static const enum dtype halves[] = {DTYPE_F16, DTYPE_BF16};
    static const unsigned quiet[] = {0x200, 0x40};
    for (size_t k = 0; k < ARRAY_LEN(halves); k++)
        for (unsigned c = 0; c < 65536; c++) {
            const uint16_t code = (uint16_t)c;
            uint16_t back;
            real v;
            dtype_read(halves[k], &code, &v, 1);
            dtype_write(halves[k], &v, &back, 1);
            if (back != (isnan(v) ? code | quiet[k] : code))
                fail_msg("%s %04x came back as %04x", dtype_table[halves[k]].name, c, back);
        }
}

/* The shapes of a GPT-2 with n layers, written and read. */
static void a_whole_model_round_trips(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t rows, cols;                 // cols 0: a vector
    } layer[] = {
        {"ln_1.weight", 8, 0}, {"ln_1.bias", 8, 0}, {"attn.bias", 4, 4},
        {"attn.c_attn.weight", 8, 24}, {"attn.c_attn.bias", 24, 0}, {"attn.c_proj.weight", 8, 8},
        {"attn.c_proj.bias", 8, 0}, {"ln_2.weight", 8, 0}, {"ln_2.bias", 8, 0},
        {"mlp.c_fc.weight", 8, 32}, {"mlp.c_fc.bias", 32, 0}, {"mlp.c_proj.weight", 32, 8},
        {"mlp.c_proj.bias", 8, 0},
    };
    static float data[1024];
    for (int i = 0; i < 1024; i++)
        data[i] = (float)i;
    for (int layers = 6; layers <= 12; layers += 6) {
        struct st_writer *w = st_writer_new();
        struct err e = {0};
        const char *path = test_path("gpt2.safetensors");
        st_writer_add(w, "wte", DTYPE_F32, 2, (const int64_t[]){64, 8}, data);
        st_writer_add(w, "wpe", DTYPE_F32, 2, (const int64_t[]){16, 8}, data);
        for (int l = 0; l < layers; l++)
            for (size_t i = 0; i < ARRAY_LEN(layer); i++) {
                char *name = xasprintf("h.%d.%s", l, layer[i].name);
                st_writer_add(w, name, DTYPE_F32, layer[i].cols ? 2 : 1,
                              (const int64_t[]){layer[i].rows, layer[i].cols}, data);
                free(name);
            }
        st_writer_add(w, "ln_f.weight", DTYPE_F32, 1, (const int64_t[]){8}, data);
        st_writer_add(w, "ln_f.bias", DTYPE_F32, 1, (const int64_t[]){8}, data);
        assert_ok(st_save(w, path, &e), &e);
        st_writer_free(w);
        struct st *st = st_open(path, &e);
        assert_non_null(st);
        assert_int_equal(st_count(st), 4 + layers * (int)ARRAY_LEN(layer));
        for (int i = 0; i < st_count(st); i++)
            assert_memory_equal(st_data(st, st_at(st, i)), data, st_at(st, i)->bytes);
        st_close(st);
    }
}

static void metadata_is_sorted_and_escaped(void **state) {
    (void)state;
    struct err e = {0};
    static const char nasty[] = "q\" b\\ t\t n\n c\x02 u\xc3\xa9";
    struct st_writer *w = st_writer_new();
    st_writer_meta(w, "z", "last");
    st_writer_meta(w, "a", nasty);
    assert_ok(st_save(w, test_path("m.safetensors"), &e), &e);
    st_writer_free(w);
    struct st *st = st_open(test_path("m.safetensors"), &e);
    assert_non_null(st);
    const char *key, *value;
    st_meta_at(st, 0, &key, &value);
    assert_string_equal(key, "a");
    assert_string_equal(value, nasty);
    assert_string_equal(st_meta(st, "z"), "last");
    assert_null(st_meta(st, "b"));
    st_close(st);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_judged),
        cmocka_unit_test(lengths_are_judged),
        cmocka_unit_test(deep_json_is_refused),
        cmocka_unit_test(many_entries_on_one_range),
        cmocka_unit_test(many_metadata_pairs),
        cmocka_unit_test(nothing_may_follow),
        cmocka_unit_test(every_cut_is_an_error),
        cmocka_unit_test(bytes_are_the_reference_writers),
        cmocka_unit_test(failing_writes_leave_nothing),
        cmocka_unit_test(saving_over_the_mapped_source),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(reals_convert),
        cmocka_unit_test(small_floats_are_as_defined),
        cmocka_unit_test(small_floats_round_to_nearest_even),
        cmocka_unit_test(halves_return_to_their_bits),
        cmocka_unit_test(a_whole_model_round_trips),
        cmocka_unit_test(metadata_is_sorted_and_escaped),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
