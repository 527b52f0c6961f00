//! A consumer that is no member of its group: it reads all partitions, and commits as nobody.
//!
//! Nothing but the order of its requests keeps an older commit from undoing a newer one.

use crate::member::{Identity, Leave, Reader, TICK};

pub struct Loner {
    reader: Reader,
    /// One comes after the other: this one is the so-manieth.
    count: i32,
}

impl Loner {
    pub fn new(reader: Reader, count: i32) -> Self {
        Self { reader, count }
    }

    pub async fn run(mut self, leaving: impl Fn() -> Option<Leave>) {
        let nobody = Identity { member_id: String::new(), at: -1, is_consumer: false };
        while leaving().is_none() {
            let all = (0..self.reader.gateway.partitions(&self.reader.group.name)).collect();
            if all != self.reader.owned {
                self.reader.owns(self.count, all);
            }
            self.reader.look_up(&nobody).await;
            self.reader.work();
            self.reader.commit(&nobody, |_| true).await;
            let pause = self.reader.chance.up_to(TICK);
            self.reader.sleep(pause).await;
        }
        self.reader.stops();
    }
}
