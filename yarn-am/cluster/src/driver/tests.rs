use std::collections::BTreeMap;
use std::sync::Mutex;

use spindle_common::config::RestartConfig;
use spindle_common::execution::{FailureCause, FailureClass};
use spindle_common::gateway::{TaskExecutorReport, ToJobManager, ToTaskExecutor};
use spindle_common::id::{JobVertexId, ResourceId};
use spindle_common::job_graph::{
    DEFAULT_SLOT_SHARING_GROUP, JobGraph, JobSubmission, JobVertex, OperatorDescriptor,
    OperatorKind, ProgramSpec,
};
use spindle_common::time::MonoTime;
use spindle_jobmanager::JobManagerConfig;
use spindle_jobmanager::message::ConnectionId;

use super::*;
use crate::connection::TaskExecutorLink;
use crate::record::{read_record, replay};

type Fed = Arc<Mutex<Vec<(MonoTime, Input)>>>;
type Script = Box<dyn FnMut(&Input) -> Vec<Effect> + Send>;

/// Does as its script says, and notes what it was fed.
struct Scripted {
    fed: Fed,
    script: Script,
    deadline: Option<MonoTime>,
}

impl Machine for Scripted {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: MonoTime, input: Input, out: &mut Outbox<'_, Effect>) {
        for effect in (self.script)(&input) {
            out.push(effect);
        }
        if input == Input::Tick {
            self.deadline = None;
        }
        self.fed.lock().unwrap().push((now, input));
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.deadline
    }
}

impl ControlPlane for Scripted {
    fn view(&self) -> View {
        View {
            stale_messages: self.fed.lock().unwrap().len() as u64,
            ..View::default()
        }
    }
}

#[derive(Clone, Default)]
struct Applied(Arc<Mutex<Vec<ResourceEffect>>>);

impl ResourceDriver for Applied {
    fn apply(&mut self, effect: ResourceEffect) {
        self.0.lock().unwrap().push(effect);
    }
}

fn scripted(script: impl FnMut(&Input) -> Vec<Effect> + Send + 'static) -> (Scripted, Fed) {
    let fed = Arc::default();
    let machine = Scripted {
        fed: Arc::clone(&fed),
        script: Box::new(script),
        deadline: None,
    };
    (machine, fed)
}

fn effects() -> Effects {
    Effects {
        resources: Box::new(Applied::default()),
        remove_staging: Box::new(|_, _| Box::pin(async {})),
        checkpoints: crate::no_checkpoint_files(),
        record: None,
    }
}

fn terminate() -> Effect {
    Effect::Terminate {
        status: FinalStatus::Succeeded,
        diagnostics: "done".to_owned(),
    }
}

fn heartbeat() -> ToJobManager {
    ToJobManager::Heartbeat(TaskExecutorReport::default())
}

fn shut_down() -> ToTaskExecutor {
    ToTaskExecutor::ShutDown {
        reason: "over".to_owned(),
    }
}

fn job() -> JobId {
    JobId::from_bytes([7; 16])
}

#[tokio::test]
async fn a_message_reaches_the_machine_and_its_answer_the_task_executor() {
    let (machine, fed) = scripted(|input| match input {
        Input::TaskExecutor { connection, .. } => vec![
            Effect::Send {
                connection: *connection,
                message: shut_down(),
            },
            terminate(),
        ],
        _ => Vec::new(),
    });
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    let (say, incoming) = mpsc::channel(4);
    let (outgoing, mut told) = mpsc::channel(4);
    let link = TaskExecutorLink { incoming, outgoing };
    handle.attach(link).await.unwrap();
    say.send(heartbeat()).await.unwrap();

    let outcome = driver.run(effects()).await;

    assert_eq!(outcome.diagnostics, "done");
    assert_eq!(told.recv().await, Some(shut_down()));
    assert_eq!(
        told.recv().await,
        None,
        "the end of the cluster ends the stream"
    );
    let connection = ConnectionId(0);
    let message = heartbeat();
    let wanted = Input::TaskExecutor {
        connection,
        message,
    };
    assert_eq!(fed.lock().unwrap()[0].1, wanted);
    assert_eq!(
        handle.view().stale_messages,
        1,
        "the last view stays visible"
    );
    assert!(handle.shut_down("late").await.is_err());
}

#[tokio::test]
async fn the_end_of_a_stream_is_an_input() {
    let (machine, fed) = scripted(|input| match input {
        Input::Disconnected { .. } => vec![terminate()],
        _ => Vec::new(),
    });
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    let (say, incoming) = mpsc::channel(4);
    let (outgoing, _told) = mpsc::channel(4);
    let link = TaskExecutorLink { incoming, outgoing };
    handle.attach(link).await.unwrap();
    drop(say);
    driver.run(effects()).await;
    assert!(matches!(
        &fed.lock().unwrap()[0].1,
        Input::Disconnected { connection: ConnectionId(0), reason } if reason == "the TaskExecutor ended"
    ));
}

#[tokio::test(start_paused = true)]
async fn a_task_executor_that_takes_nothing_is_disconnected_and_holds_nobody_up() {
    let (machine, _) = scripted(|input| match input {
        Input::TaskExecutor { connection, .. } => (0..10_000)
            .map(|_| Effect::Send {
                connection: *connection,
                message: shut_down(),
            })
            .collect(),
        Input::Disconnected { .. } => vec![terminate()],
        _ => Vec::new(),
    });
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    let (say, incoming) = mpsc::channel(4);
    let (outgoing, _told) = mpsc::channel(1);
    let link = TaskExecutorLink { incoming, outgoing };
    handle.attach(link).await.unwrap();
    say.send(heartbeat()).await.unwrap();
    let outcome = driver.run(effects()).await;
    assert_eq!(outcome.status, FinalStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn the_machine_is_ticked_at_its_deadline() {
    let (mut machine, fed) = scripted(|input| match input {
        Input::Tick => vec![terminate()],
        _ => Vec::new(),
    });
    machine.deadline = Some(MonoTime::from_millis(90_000));
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    handle.client_released().await.unwrap();
    driver.run(effects()).await;
    let fed = fed.lock().unwrap();
    assert_eq!(fed[0].1, Input::ClientReleased);
    assert_eq!(fed[1].1, Input::Tick);
    assert_eq!(fed[1].0.as_millis() / 10, 9000);
}

#[tokio::test]
async fn containers_are_asked_for_and_told_of() {
    let resource = ResourceId::new("container_1");
    let launch = ResourceEffect::Launch {
        resource: resource.clone(),
        slots: 1,
    };
    let event = ResourceEvent::LaunchFailed {
        resource,
        reason: "no disk".to_owned(),
    };
    let wanted = launch.clone();
    let (machine, fed) = scripted(move |input| match input {
        Input::ClientReleased => vec![Effect::Resource(wanted.clone())],
        Input::Resource(_) => vec![terminate()],
        _ => Vec::new(),
    });
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    let applied = Applied::default();
    let mut effects = effects();
    effects.resources = Box::new(applied.clone());
    handle.client_released().await.unwrap();
    let events = handle.resource_events();
    let provider = async {
        let mut view = handle.watch();
        view.wait_for(|view| view.stale_messages == 1)
            .await
            .unwrap();
        events.send(event.clone()).unwrap();
    };
    tokio::join!(driver.run(effects), provider);
    assert_eq!(*applied.0.lock().unwrap(), [launch]);
    assert_eq!(fed.lock().unwrap()[1].1, Input::Resource(event));
}

#[tokio::test]
async fn the_end_waits_for_the_removal_of_staging() {
    let (machine, _) = scripted(|_| {
        let directories = vec!["hdfs://nn/out/.staging".to_owned()];
        let job = job();
        vec![Effect::RemoveStaging { job, directories }, terminate()]
    });
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    let removed = Arc::new(Mutex::new(Vec::new()));
    let mut effects = effects();
    let seen = Arc::clone(&removed);
    effects.remove_staging = Box::new(move |_, directories| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            tokio::task::yield_now().await;
            seen.lock().unwrap().extend(directories);
        })
    });
    handle.client_released().await.unwrap();
    driver.run(effects).await;
    assert_eq!(*removed.lock().unwrap(), ["hdfs://nn/out/.staging"]);
}

#[tokio::test]
async fn the_inputs_of_a_failed_job_can_be_replayed() {
    let fail = |input: &Input| match input {
        Input::CancelJob { job, .. } => vec![
            Effect::Transition(Transition::Job {
                job: *job,
                from: JobStatus::Running,
                to: JobStatus::Failed,
                cause: Some(FailureCause {
                    class: FailureClass::FailJob,
                    operator: None,
                    message: "bad".to_owned(),
                }),
            }),
            terminate(),
        ],
        _ => Vec::new(),
    };
    let (machine, fed) = scripted(fail);
    let (driver, handle) = ClusterDriver::new(machine, Clock::start());
    handle.client_released().await.unwrap();
    handle.cancel(job(), "test").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inputs.jsonl");
    let mut effects = effects();
    effects.record = Some(path.clone());
    driver.run(effects).await;

    let recorded = read_record(&path).unwrap();
    let inputs: Vec<_> = recorded
        .iter()
        .map(|one| (one.at, one.input.clone()))
        .collect();
    assert_eq!(inputs, *fed.lock().unwrap());
    let (mut again, _) = scripted(fail);
    let effects = replay(&mut again, recorded);
    assert_eq!((effects[0].len(), effects[1].len()), (0, 2));

    std::fs::write(&path, "{}\n").unwrap();
    let error = read_record(&path).unwrap_err().to_string();
    assert!(
        error.starts_with("line 1 of the recorded inputs"),
        "{error}"
    );
}

#[tokio::test]
async fn a_real_job_manager_comes_to_the_same_end_again() {
    let settings = || JobManagerConfig {
        restart: RestartConfig::None,
        ..JobManagerConfig::default()
    };
    let (driver, handle) = ClusterDriver::new(JobManager::new(settings()), Clock::start());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("inputs.jsonl");
    let mut effects = effects();
    effects.record = Some(path.clone());
    handle.submit(submission()).await.unwrap();
    let refused = ResourceEvent::Refused {
        profile: None,
        reason: "there is no such container".to_owned(),
    };
    let provider = async {
        let mut view = handle.watch();
        view.wait_for(|view| !view.jobs.is_empty()).await.unwrap();
        handle.resource_events().send(refused).unwrap();
    };
    let (outcome, ()) = tokio::join!(driver.run(effects), provider);
    assert_eq!(outcome.status, FinalStatus::Failed);
    assert!(
        outcome.diagnostics.contains("there is no such container"),
        "{outcome:?}"
    );

    let mut again = JobManager::new(settings());
    let last = replay(&mut again, read_record(&path).unwrap())
        .pop()
        .unwrap();
    let Outcome {
        status,
        diagnostics,
    } = outcome;
    assert_eq!(
        last.last(),
        Some(&Effect::Terminate {
            status,
            diagnostics
        })
    );
    assert_eq!(again.view(), *handle.view());
}

fn submission() -> JobSubmission {
    let vertex = JobVertex {
        id: JobVertexId::of_uid("read"),
        parallelism: 1,
        max_parallelism: 128,
        operators: vec![OperatorDescriptor {
            uid: "read".to_owned(),
            name: "read".to_owned(),
            kind: OperatorKind::Source,
        }],
        splits: vec![Vec::new()],
        staging: Vec::new(),
        slot_sharing_group: DEFAULT_SLOT_SHARING_GROUP.to_owned(),
    };
    JobSubmission {
        job: job(),
        graph: JobGraph {
            name: "count".to_owned(),
            vertices: vec![vertex],
            edges: Vec::new(),
            slot_profiles: BTreeMap::new(),
        },
        program: ProgramSpec {
            executable: "job".to_owned(),
            args: Vec::new(),
            artifact: None,
        },
        config: Vec::new(),
    }
}
