//! Ids as YARN prints them, and text that is none.

use proptest::prelude::*;

use super::*;

const APPLICATION: ApplicationId = ApplicationId {
    cluster_timestamp: 1_795_219_827_359,
    id: 1,
};
const ATTEMPT: ApplicationAttemptId = ApplicationAttemptId {
    application: APPLICATION,
    attempt: 1,
};

#[test]
fn ids_are_printed_as_yarn_prints_them() {
    let container = ContainerId {
        attempt: ATTEMPT,
        id: 2,
    };
    assert_eq!(APPLICATION.to_string(), "application_1795219827359_0001");
    assert_eq!(ATTEMPT.to_string(), "appattempt_1795219827359_0001_000001");
    assert_eq!(
        container.to_string(),
        "container_1795219827359_0001_01_000002"
    );
    assert_eq!(
        NodeId::new("localhost", 45454).to_string(),
        "localhost:45454"
    );
}

#[test]
fn the_epoch_of_a_container_id_is_in_its_upper_bits() {
    let container = ContainerId {
        attempt: ATTEMPT,
        id: 3_298_534_883_330,
    };
    assert_eq!((container.epoch(), container.sequence()), (3, 2));
    assert_eq!(
        container.to_string(),
        "container_e03_1795219827359_0001_01_000002"
    );
    assert_eq!(
        "container_e03_1795219827359_0001_01_000002".parse(),
        Ok(container)
    );
}

#[test]
fn numbers_beyond_the_padding_are_kept_whole() {
    let text = "container_e123_1795219827359_123456_123_12345678";
    assert_eq!(text.parse::<ContainerId>().unwrap().to_string(), text);
}

#[test]
fn other_text_is_refused_with_the_text_in_the_error() {
    for text in [
        "",
        "application_",
        "application_1_-1",
        "application_1_1_1",
        "application_+1_1",
        "app_1_1",
    ] {
        let error = text.parse::<ApplicationId>().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("not a YARN application id: `{text}`")
        );
    }
    assert!("container_e_1_1_1_1".parse::<ContainerId>().is_err());
    assert!(
        "container_1_1_1_1099511627776"
            .parse::<ContainerId>()
            .is_err(),
        "41 bits"
    );
    assert!("host".parse::<NodeId>().is_err());
    assert!("host:65536".parse::<NodeId>().is_err());
}

#[test]
fn a_message_without_its_attempt_is_no_container_id() {
    assert!(
        ContainerId::try_from(&pb::ContainerId {
            id: Some(1),
            ..Default::default()
        })
        .is_err()
    );
    assert!(ContainerId::try_from(None).is_err());
}

#[test]
fn ids_are_text_in_json() {
    let json = serde_json::to_string(&APPLICATION).unwrap();
    assert_eq!(json, "\"application_1795219827359_0001\"");
    assert_eq!(
        serde_json::from_str::<ApplicationId>(&json).unwrap(),
        APPLICATION
    );
}

proptest! {
    #[test]
    fn every_id_survives_text_and_message(ts in 0..=i64::MAX as u64, app in 0..=i32::MAX as u32, n in 0..=i32::MAX as u32, id in 0..=i64::MAX as u64) {
        let application = ApplicationId { cluster_timestamp: ts, id: app };
        let attempt = ApplicationAttemptId { application, attempt: n };
        let container = ContainerId { attempt, id };
        prop_assert_eq!(application.to_string().parse(), Ok(application));
        prop_assert_eq!(attempt.to_string().parse(), Ok(attempt));
        prop_assert_eq!(container.to_string().parse(), Ok(container));
        prop_assert_eq!(ContainerId::try_from(pb::ContainerId::from(container)), Ok(container));
    }

    #[test]
    fn parsing_arbitrary_text_never_panics(text in "(application|appattempt|container|)_?e?[0-9_:é-]{0,40}|.{0,40}") {
        let _ = text.parse::<ApplicationId>();
        let _ = text.parse::<ApplicationAttemptId>();
        let _ = text.parse::<ContainerId>();
        let _ = text.parse::<NodeId>();
    }
}
