//! The member key where the monitoring statement does not say all.

use super::world::orphan;

/// A standby leader of this moment: its statement did not ask for the timeline in the control file yet.
#[test]
fn a_new_standby_leader_reads_its_timeline_from_the_control_file() {
    let won = |world: super::world::World| {
        let world = world.config(r#""standby_cluster":{"host":"remote"}"#).row(|r| {
            r.received_timeline = None;
            r.control_timeline = Some(0);
        });
        let outcome = world.run();
        assert_eq!(outcome.line, "promoted self to a standby leader by acquiring session lock");
        outcome.member().unwrap().get("timeline").cloned()
    };
    let line = ("Latest checkpoint's TimeLineID".to_owned(), "3".to_owned());
    assert_eq!(won(orphan().answer(|a| a.control.lines = vec![line])), Some(3.into()));
    assert_eq!(won(orphan()), None);
}
