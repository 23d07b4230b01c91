use super::*;

#[test]
fn a_session_ends_a_gap_after_its_last_record() {
    Setup::of(SessionWindows::with_gap(ms(10))).tells(
        "
        push 1@0 1@5 2@7 1@40
        watermark 13
        push 1@14
        watermark 23
        -> 2: 1 in 7..17
        -> 1: 3 in 0..24
        watermark max
        -> 1: 1 in 40..50
        ",
    );
}

#[test]
fn a_record_between_two_sessions_makes_one_of_them() {
    Setup::of(SessionWindows::with_gap(ms(10))).tells(
        "
        push 1@0 1@20 1@50
        push 1@10
        watermark 29
        -> 1: 3 in 0..30
        push 1@60
        watermark max
        -> 1: 2 in 50..70
        ",
    );
}

#[test]
fn the_earlier_end_of_a_session_that_grew_fires_nothing() {
    Setup::of(SessionWindows::with_gap(ms(10))).tells(
        "
        push 1@0
        push 1@8
        watermark 9
        push 1@16
        watermark 17
        watermark 24
        watermark 25
        -> 1: 3 in 0..26
        ",
    );
}

#[test]
fn a_late_record_counts_where_its_session_is_still_open() {
    let setup = Setup::of(SessionWindows::with_gap(ms(10))).late();
    setup.tells(
        "
        push 1@20 2@0
        watermark 15
        -> 2: 1 in 0..10
        push 1@11 1@12 2@1 2@3
        -> late 2@1
        -> late 2@3
        push 1@2
        watermark max
        -> 1: 4 in 2..30
        ",
    );
}

#[test]
fn within_the_allowed_lateness_a_session_fires_again_and_may_grow() {
    let setup = Setup::of(SessionWindows::with_gap(ms(10)))
        .lateness(20)
        .late();
    setup.tells(
        "
        push 1@0
        watermark 15
        -> 1: 1 in 0..10
        push 1@4
        -> 1: 2 in 0..14
        push 1@12
        watermark 20
        push 1@21
        watermark 30
        -> 1: 4 in 0..31
        watermark 50
        push 1@21
        -> late 1@21
        push 1@35
        -> 1: 1 in 35..45
        ",
    );
}

#[test]
fn each_record_may_say_how_long_its_gap_is() {
    let gap = |(_, gap): &Reading| ms(*gap as u64);
    Setup::of(SessionWindows::with_gap_of(gap)).tells(
        "
        push 1:5@0 1:100@3 1:5@50 1:5@200
        watermark max
        -> 1: 3 in 0..103
        -> 1: 1 in 200..205
        ",
    );
}

#[test]
fn sessions_of_processing_time_end_when_nothing_came_for_the_gap() {
    let sessions = SessionWindows::with_gap(ms(10)).on_processing_time();
    Setup::of(sessions).tells(
        "
        clock 100
        push 1 2
        clock 109
        push 1
        clock 110
        -> 2: 1 in 100..110
        clock 118
        clock 119
        -> 1: 2 in 100..119
        push 1
        end
        -> 1: 1 in 119..129
        ",
    );
}
