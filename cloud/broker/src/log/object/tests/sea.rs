//! An object store far away, by a seed: what is asked takes its time, answers are lost, and a write goes on when nobody
//! waits for it any more, for long sometimes.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use tokio::sync::oneshot;

/// A small generator (SplitMix64): the same seed gives the same run.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Sea {
    objects: Arc<InMemory>,
    weather: Arc<Mutex<Weather>>,
}

#[derive(Debug)]
struct Weather {
    random: Random,
    calm: bool,
}

/// What becomes of one request.
#[derive(Clone, Copy)]
struct Fate {
    there: Duration,
    back: Duration,
    is_lost: bool,
    answer_is_lost: bool,
}

impl Sea {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            objects: Arc::default(),
            weather: Arc::new(Mutex::new(Weather {
                random: Random::new(seed),
                calm: false,
            })),
        }
    }

    /// From now on nothing goes wrong.
    pub(super) fn calm(&self) {
        self.weather.lock().unwrap().calm = true;
    }

    fn fate(&self) -> Fate {
        let Weather { random, calm } = &mut *self.weather.lock().unwrap();
        let mut way = |long: u64| {
            let millis = match random.percent(5) {
                true => random.below(long),
                false => random.below(30),
            };
            Duration::from_millis(millis)
        };
        // What is late by far is so on its way there: the answer to it has a deadline elsewhere.
        let (there, back) = (way(20_000), way(500));
        Fate {
            there,
            back,
            is_lost: !*calm && random.percent(5),
            answer_is_lost: !*calm && random.percent(8),
        }
    }

    async fn read<T>(&self, read: impl Future<Output = Result<T>>) -> Result<T> {
        let fate = self.fate();
        tokio::time::sleep(fate.there.min(Duration::from_millis(200))).await;
        let answer = read.await;
        tokio::time::sleep(fate.back).await;
        match fate.is_lost && fate.answer_is_lost {
            true => Err(lost()),
            false => answer,
        }
    }
}

fn lost() -> Error {
    Error::Generic {
        store: "sea",
        source: std::io::Error::other("the answer is lost").into(),
    }
}

impl fmt::Display for Sea {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sea")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Sea {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let (fate, objects, location) = (self.fate(), self.objects.clone(), location.clone());
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(fate.there).await;
            if fate.is_lost {
                return;
            }
            let put = objects.put_opts(&location, payload, options).await;
            tokio::time::sleep(fate.back).await;
            if !fate.answer_is_lost {
                let _ = answer.send(put);
            }
        });
        // A request that is given up may be carried out all the same.
        let answered = tokio::time::timeout(Duration::from_secs(1), answered).await;
        answered.map_err(|_| lost())?.map_err(|_| lost())?
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.objects.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.read(self.objects.get_opts(location, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let (this, objects) = (self.clone(), self.objects.clone());
        locations
            .then(move |location| {
                let (this, objects) = (this.clone(), objects.clone());
                async move {
                    let location = location?;
                    let one = futures_util::stream::once(async move { Ok(location) });
                    let mut deleted = objects.delete_stream(one.boxed());
                    let deleted = async move { deleted.next().await.unwrap_or(Err(lost())) };
                    this.read(deleted).await
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, objects, prefix) = (self.clone(), self.objects.clone(), prefix.cloned());
        let listed = async move {
            let all = async { Ok(objects.list(prefix.as_ref()).collect::<Vec<_>>().await) };
            this.read(all)
                .await
                .unwrap_or_else(|error| vec![Err(error)])
        };
        futures_util::stream::once(listed)
            .flat_map(futures_util::stream::iter)
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.objects.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.objects.copy_opts(from, to, options).await
    }
}
