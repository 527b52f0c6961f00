//! A producer and a reader side by side, as the fault tests run them: with nothing going wrong they must agree too.

use tidemark_tests::clients::topic;
use tidemark_tests::load::{Load, Reading};
use tidemark_tests::target::target;

#[test]
fn a_busy_topic_is_read_as_it_grows() {
    let topic = topic("busy", 6);
    let load = Load::start(&target().bootstrap, &topic, 6);
    let reading = Reading::start(&target().bootstrap, &topic, 6);
    load.progress(10_000);
    reading.reaches(load.count());
    reading.finish();
    assert!(load.verify(&target().bootstrap) >= 10_000);
}
