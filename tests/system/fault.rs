//! What breaks from outside, and the reconciliation afterwards. What breaks from below (power cuts,
//! SIGKILL by the hundred, every call on the disk failed once) is `tests/fault`, a program because
//! it mounts disks; `tests/fault/run` runs it.
//!
//! # Ten lessons others paid for, and what holds us to each
//!
//! | lesson | held by |
//! |---|---|
//! | 1. Acknowledge after the sync of data and index, forget after the sync of what forgets | `faults cuts`, `faults calls`; store `durability::after_a_failed_commit_everything_fails_until_reopened`; adapters `conformance::sources::nothing_is_lost_let_go_early_or_sent_again` |
//! | 2. Damage costs its own record only, and can be seen and mended | store `rest::swapped_values_do_not_open_and_stop_nothing_else`, `rest::damaged_items_that_are_due_do_not_come_up_again`, `durability::fsck_sees_a_missing_blob_and_a_wrong_counter`; a torn tail: `faults cuts` (sectors) |
//! | 3. The duplicate key in the commit of the effect; a duplicate gets the first answer | store `semantics::the_same_bytes_get_the_original_receipt_and_the_cursor_moves`, `flow::the_same_message_twice_gets_the_original_receipt`; after crashes: `faults kills`, `faults cuts` (every push is repeated until its receipt is there) |
//! | 4. Leases with a heartbeat and a fence | store `model`, `semantics::an_expired_lease_is_fenced_off_and_extending_keeps_one`; [`targets`] `a_target_that_answers_after_the_lease_ended_settles_nothing_more` |
//! | 5. Count the crash before touching the payload, set aside after N, keep the bytes | `faults poison`; store `semantics::pending_is_fair_and_attempts_are_counted_before_the_payload` |
//! | 6. Evidence neither blocks traffic nor is blocked by it | of evidence there is feedback so far: `feedback::a_broken_road_holds_up_nothing_and_heals`. The audit log and its timestamps come with their own issue, and so does their test |
//! | 7. A loop that dies silently is an outage | `faults calls`: whatever part cannot go on ends the process, with words, and a supervisor starts it again. Health by progress comes with the operations issue |
//! | 8. Silent downgrade is data loss | [`targets`]: no answer that is short, foreign, doubled or without sense passes for acceptance; `flow::a_bad_row_does_not_stop_its_batch`; configuration: adapters `every_source_refuses_unknown_and_missing_parameters_at_once` |
//! | 9. Parsers meet hostile input | `tests/fuzz`; `samples::hostile_files_end_soon_and_small`; adapters `workbook_tests::a_cell_in_the_far_corner_costs_nothing_and_is_refused`, `archive::bombs_and_passwords_are_refused` |
//! | 10. A proof is worth what its verifier checks; retention never outlives or kills evidence | raw bytes: store `rest::every_changed_bit_of_a_value_is_refused`. Signed roots, witnesses and their verifier come with the audit issue |

pub(crate) mod kill;
mod targets;
