/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * jinja_test.c — the tests of "x is test", and of select and its relatives.
 */
#include "model/jinja_type.h"

#include <string.h>

#define TEST(name) \
    static struct value *is_##name(struct interp *x, struct value *self, struct value **a)

static struct value *answer(int rc) {
    return rc < 0 ? NULL : value_bool(rc);
}

/* ---- kinds ---- */
#define KIND(name, condition)                                                                   \
    TEST(name) {                                                                                \
        (void)x, (void)a;                                                                       \
        return value_bool(condition);                                                           \
    }
KIND(defined, !is_undefined(self))
KIND(undefined_, is_undefined(self))
KIND(none_, is_none(self))
KIND(boolean, self->type == &type_bool)
KIND(true_, self == &value_true)
KIND(false_, self == &value_false)
KIND(integer, self->type == &type_int)
KIND(float_, self->type == &type_float)
KIND(number_, is_number(self))
KIND(string, is_str(self))
KIND(mapping, self->type == &type_dict)
KIND(iterable, self->type->walk != NULL)
KIND(sequence, self->type->walk && self->type->walk->len && self->type->item)
KIND(callable, self->type->call != NULL || is_undefined(self))
KIND(escaped, is_str(self) && self->str.markup)
KIND(filter, is_str(self) && filter_find(self->str.s, self->str.len))
KIND(test, is_str(self) && function_find(test_table, self->str.s, self->str.len))

/* Both print the value first and ask that: is a string in this case? */
static struct value *ask_str(struct interp *x, struct value *v, const char *method) {
    struct value *s = value_to_str(x, v);
    struct call none = {0};
    return s ? function_call(x, function_find(str_attrs, method, strlen(method)), s, &none) : NULL;
}

TEST(lower) {
    (void)a;
    return ask_str(x, self, "islower");
}

TEST(upper) {
    (void)a;
    return ask_str(x, self, "isupper");
}

/* ---- numbers ---- */
static struct value *remainder_is(struct interp *x, struct value *v, struct value *by,
                                  int64_t want) {
    struct value *m = value_mod(x, v, by), *w = value_int(x->pool, want);
    return m ? answer(value_equal(x, m, w)) : NULL;
}

TEST(even) {
    (void)a;
    return remainder_is(x, self, value_int(x->pool, 2), 0);
}

TEST(odd) {
    (void)a;
    return remainder_is(x, self, value_int(x->pool, 2), 1);
}

TEST(divisibleby) {
    return remainder_is(x, self, a[0], 0);
}

/* ---- comparing ---- */
TEST(eq) {
    return answer(value_equal(x, self, a[0]));
}

TEST(ne) {
    int rc = value_equal(x, self, a[0]);
    return answer(rc < 0 ? rc : !rc);
}

TEST(lt) {
    return answer(value_order(x, self, a[0], ORDER_LT));
}

TEST(le) {
    return answer(value_order(x, self, a[0], ORDER_LE));
}

TEST(gt) {
    return answer(value_order(x, self, a[0], ORDER_GT));
}

TEST(ge) {
    return answer(value_order(x, self, a[0], ORDER_GE));
}

TEST(in) {
    return answer(value_contains(x, a[0], self));
}

/* Whether equal numbers or strings are one object is chance in Python. */
TEST(sameas) {
    bool plain = is_str(self) || self->type == &type_int || self->type == &type_float ||
                 is_tuple(self);
    if (self == a[0])
        return &value_true;
    if (!plain || self->type != a[0]->type)
        return &value_false;
    int rc = value_equal(x, self, a[0]);
    return rc > 0 ? interp_fail(x, "sameas: equal values of type %s may be one object or two",
                                self->type->name) : answer(rc);
}

const struct function test_table[] = {
    {"!=", "/ other", is_ne, 0},
    {"<", "/ other", is_lt, 0},
    {"<=", "/ other", is_le, 0},
    {"==", "/ other", is_eq, 0},
    {">", "/ other", is_gt, 0},
    {">=", "/ other", is_ge, 0},
    {"boolean", "", is_boolean, 0},
    {"callable", "", is_callable, 0},
    {"defined", "", is_defined, 0},
    {"divisibleby", "num", is_divisibleby, 0},
    {"eq", "/ other", is_eq, 0},
    {"equalto", "/ other", is_eq, 0},
    {"escaped", "", is_escaped, 0},
    {"even", "", is_even, 0},
    {"false", "", is_false_, 0},
    {"filter", "", is_filter, 0},
    {"float", "", is_float_, 0},
    {"ge", "/ other", is_ge, 0},
    {"greaterthan", "/ other", is_gt, 0},
    {"gt", "/ other", is_gt, 0},
    {"in", "seq", is_in, 0},
    {"integer", "", is_integer, 0},
    {"iterable", "", is_iterable, 0},
    {"le", "/ other", is_le, 0},
    {"lessthan", "/ other", is_lt, 0},
    {"lower", "", is_lower, 0},
    {"lt", "/ other", is_lt, 0},
    {"mapping", "", is_mapping, 0},
    {"ne", "/ other", is_ne, 0},
    {"none", "", is_none_, 0},
    {"number", "", is_number_, 0},
    {"odd", "", is_odd, 0},
    {"sameas", "other", is_sameas, 0},
    {"sequence", "", is_sequence, 0},
    {"string", "", is_string, 0},
    {"test", "", is_test, 0},
    {"true", "", is_true_, 0},
    {"undefined", "", is_undefined_, 0},
    {"upper", "", is_upper, 0},
    {0},
};
