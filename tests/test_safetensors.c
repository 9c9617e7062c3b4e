/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * test_safetensors.c — the reader against every defect of the format, the writer byte for byte.
 */
#include "tests/helper.h"

#include "ckpt/safetensors.h"

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
    {PLAIN, 17, -1, "trailing"},
    {PLAIN, 14, -1, "cut short"},
    {"{", 0, -1, "ends early"},
    {"", 0, -1, "ends early"},
    {"[]", 0, -1, "invalid JSON"},
    {"\xff", 0, -1, "UTF-8"},
    {"{\"\xff\":1}", 0, -1, "invalid JSON"},
    {"{}x", 0, -1, "blanks only"},
    {"{\"t\":1}", 0, -1, "expected an object"},
    {"{\"t\":{}}", 0, -1, "dtype is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, -1, "data_offsets is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, -1, "shape is missing"},
    {"{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, -1,
     "duplicate"},
    {"{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
     "\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, -1, "twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, -1, "twice"},
    {"{\"__metadata__\":{\"a\":1}}", 0, -1, "expected a string"},
    {"{\"__metadata__\":[]}", 0, -1, "object of strings"},
    {"{\"\\ud800\":1}", 0, -1, "invalid JSON"},
    {"{\"a\":1,}", 0, -1, "expected an object"},
    {E("f32", "[1]", "[0,4]"), 4, -1, "dtype: expected one of BOOL"},
    {E("F32", "[1.0]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[-1]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[\"1\"]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[null]", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "1", "[0,4]"), 4, -1, "non-negative integers"},
    {E("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, -1, "at most 8"},
    {E("F32", "[1]", "[0]"), 4, -1, "two non-negative"},
    {E("F32", "[1]", "[0,2,4]"), 4, -1, "two non-negative"},
    {E("F32", "[1]", "[4,0]"), 4, -1, "ends before"},
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
    for (int i = 0; i < 30000; i++)
        str_addf(&b, "%s\"w%d\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]}",
                 i ? "," : "{", i);
    str_addc(&b, '}');
    const double start = now_seconds();
    assert_null(st_open(make_file("many.safetensors", b.s, 16), &e));
    assert_contains(e.msg, "overlap");
    assert_true(now_seconds() - start < 2);
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
    enum { N = 70001 };
    real *v = xcalloc(N, sizeof *v), *back = xcalloc(N, sizeof *back);
    struct rng *r = rng_new(2);
    for (int i = 0; i < N; i++)
        v[i] = (real)(int)rng_below(r, 255) - 127;      // exact in every one of them
    struct st_writer *w = st_writer_new();
    int kinds = 0;
    for (int d = 0; d < DTYPE_COUNT; d++)
        if (dtype_table[d].can_compute) {
            st_writer_add_real(w, dtype_table[d].name, (enum dtype)d, 1, (const int64_t[]){N}, v);
            kinds++;
        }
    assert_int_equal(kinds, 4);
    struct err e = {0};
    assert_ok(st_save(w, test_path("real.safetensors"), &e), &e);
    st_writer_free(w);
    struct st *st = st_open(test_path("real.safetensors"), &e);
    assert_non_null(st);
    for (int i = 0; i < st_count(st); i++) {
        memset(back, 0, N * sizeof *back);
        st_read(st, st_at(st, i), back);
        assert_memory_equal(back, v, N * sizeof *back);
    }
    st_close(st);
    free(v);
    free(back);
    rng_free(r);
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
        cmocka_unit_test(every_cut_is_an_error),
        cmocka_unit_test(bytes_are_the_reference_writers),
        cmocka_unit_test(failing_writes_leave_nothing),
        cmocka_unit_test(saving_over_the_mapped_source),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(reals_convert),
        cmocka_unit_test(metadata_is_sorted_and_escaped),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
