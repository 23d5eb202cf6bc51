// Who passes is counted until admitted; a shut door refuses; the engine does not end before who passed has arrived.
#include "engine/door.h"

#include "unit.h"

static void passing_is_counted_and_bounded(void **state) {
    (void)state;
    door *d = door_new(2);
    mail_node nodes[3];
    err e = {0};
    assert_true(door_enter(d, &nodes[0], &e) && door_enter(d, &nodes[1], &e));
    assert_false(door_enter(d, &nodes[2], &e));
    assert_int_equal(e.code, ERR_BUSY);
    assert_ptr_equal(mailbox_take(&d->mail), &nodes[0]);
    assert_ptr_equal(nodes[0].next, &nodes[1]);
    e = (err){0};
    assert_false(door_enter(d, &nodes[2], &e)); // taken is not admitted
    door_admit(d);
    door_return(d); // who was preempted counts again
    assert_false(door_enter(d, &nodes[2], &e));
    door_admit(d);
    assert_true(door_enter(d, &nodes[2], &e));
    door_release(d);
}

static void shut_refuses_and_wakes(void **state) {
    (void)state;
    door *d = door_new(2);
    mail_node node;
    err e = {0};
    door_shut(d, 5);
    assert_null(mailbox_wait(&d->mail, -1)); // rung: returns
    assert_false(door_enter(d, &node, &e));
    assert_int_equal(e.code, ERR_STOPPED);
    assert_int_equal(d->cancel_at_us, 5);
    door_release(d);
}

static void final_only_when_all_who_passed_are_through(void **state) {
    (void)state;
    door *d = door_new(2);
    assert_false(door_is_final(d));
    atomic_fetch_add(&d->entered, 1); // somebody is between the door and the mailbox
    door_shut(d, 0);
    assert_false(door_is_final(d));
    door_admit(d);
    assert_true(door_is_final(d));
    door_release(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passing_is_counted_and_bounded),
        cmocka_unit_test(shut_refuses_and_wakes),
        cmocka_unit_test(final_only_when_all_who_passed_are_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
