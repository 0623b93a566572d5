//! Spark reads what came by MQTT, and what a Kafka client has produced. Spark is large, so this runs by its own name only:
//! `tests/run --full analytics`.

use tidegate_system_tests::interop::kafka_pages::run_page;
use tidegate_system_tests::{interop, workspace};

#[test]
fn the_page_of_spark_works() {
    run_page("spark", || {
        if !workspace::has_tool("mosquitto_pub") {
            return Err("no mosquitto_pub: install mosquitto-clients".to_owned());
        }
        interop::built("kafka/spark", "analytics").map(|_| ())
    });
}
