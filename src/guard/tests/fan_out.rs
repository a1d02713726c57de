//! The same tables where what our own write of `all.forwarding` did to interfaces is not heard.

use super::put_back::*;
use super::*;

#[test]
fn our_own_fan_out_need_not_be_heard() {
    UNHEARD.set(true);
    for test in [
        one_drift_of_ip_forward_is_one_record_and_nothing_else_changes,
        an_interface_that_the_policy_closes_is_no_drift_of_its_own,
        at_start_excluded_interfaces_stay_and_others_open,
        ipv6_tells_of_all_last_and_is_one_record_all_the_same,
        the_order_of_repairs,
        a_new_interface_is_judged_by_its_registration_and_by_its_name,
        a_write_to_default_rp_filter_has_everything_read_again,
        a_link_that_came_up_is_looked_at_and_no_other_and_at_what_is_announced_only_later,
        what_was_mended_before_the_guard_looked_is_no_news,
        accept_redirects_is_put_back_to_what_stood_before_the_drift,
        an_unnamed_interface_keeps_what_it_had_before_the_drift,
        a_reload_in_the_middle_of_a_drift_does_not_take_it_for_what_stood_before,
        what_an_overrun_may_have_hidden_of_ipv6_is_not_put_back,
        an_interface_that_another_writer_closes_first_is_not_taken_for_open,
        a_write_that_the_kernel_takes_for_none_leaves_what_stood_before_the_drift_in_mind,
        what_the_kernel_opens_in_nobodys_name_is_closed_again,
        what_the_kernel_opens_in_nobodys_name_right_after_our_write_is_closed_again,
        what_the_kernel_opens_while_nothing_is_heard_is_closed_again,
        what_somebody_opens_while_everything_is_read_stays_open,
        a_stream_of_changes_of_one_interface_of_ipv6_does_not_keep_a_drift_open,
        who_opens_all_interfaces_after_a_drift_was_mended_by_another_is_heard,
        the_beginning_of_the_next_drift_of_ipv6_is_not_taken_for_what_stood_before_it,
    ] {
        test();
    }
}
