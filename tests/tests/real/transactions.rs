//! Interactive transactions of clients: each as a whole, once, or not at all.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_core::shard::ShardError;
use quorate_io::client::{Client, Error, Reading};
use quorate_tests::{Lab, eventually};

use super::clients::{Over, connect, on, url, with_user};
use super::databases::SETTLE;

/// One more, by reading what there is first. False: it is not done, and the owner has said why.
async fn add_one(client: &Client) -> Result<bool, Error> {
    let lost = |error: &Error| {
        matches!(error, Error::Shard(ShardError::TransactionLost { .. }) | Error::TimedOut { .. })
    };
    let all = async {
        let mut transaction = client.begin().await?;
        let sql = "SELECT number FROM t WHERE id = ?";
        let (count,) = transaction.fetch_one::<(i64,)>(sql, (1,)).await?;
        transaction.execute("UPDATE t SET number = ? WHERE id = ?", (count + 1, 1)).await?;
        transaction.commit().await
    };
    match all.await {
        Ok(_) => Ok(true),
        Err(error) if lost(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[test]
fn a_transaction_of_a_client_reads_what_it_wrote_and_is_done_or_undone_as_a_whole() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 3);
    let url = url(&nodes, &format!("token={token}"));
    on(&lab, async || {
        let client = connect(&url).await;
        let mut transaction = client.begin().await.unwrap();
        let done = transaction.execute("INSERT INTO t VALUES (1, 0, 7)", ()).await.unwrap();
        assert_eq!((done.affected(), done.last_insert_rowid()), (1, Some(1)));
        let error = transaction.execute("INSERT INTO t VALUES (1, 0, 7)", ()).await.unwrap_err();
        assert!(matches!(&error, Error::Sql(_)), "{error}");
        let seen = transaction.fetch::<(i64, i64)>("SELECT id, number FROM t", ()).await.unwrap();
        assert_eq!(seen, [(1, 7)]);
        let elsewhere = client.fetch_one::<(i64,)>("SELECT count(*) FROM t", ()).await.unwrap();
        assert_eq!(elsewhere, (0,), "it is not done yet");
        let done = transaction.commit().await.unwrap();
        let after = client.fetch_one::<(i64,)>("SELECT number FROM t", ()).await.unwrap();
        assert_eq!(after, (7,));
        assert!(done.lsn > 0);

        let mut undone = client.begin().await.unwrap();
        undone.execute("DELETE FROM t", ()).await.unwrap();
        undone.rollback().await.unwrap();
        // One that is dropped is undone too, and holds up nobody for long.
        let mut dropped = client.begin().await.unwrap();
        dropped.execute("DELETE FROM t", ()).await.unwrap();
        drop(dropped);
        let began = Instant::now();
        let count = client.execute("UPDATE t SET writer = 1", ()).await.unwrap().affected();
        assert_eq!(count, 1);
        println!("the next write after one that was dropped: {:?}", began.elapsed());

        // One that does nothing for a while is ended by the owner, which says so.
        let mut idle = client.begin().await.unwrap();
        idle.execute("DELETE FROM t", ()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let error = idle.execute("DELETE FROM t", ()).await.unwrap_err();
        assert!(error.to_string().contains("nothing was asked"), "{error}");
        let error = idle.commit().await.unwrap_err();
        assert!(matches!(error, Error::Shard(ShardError::TransactionLost { .. })), "{error}");
        assert_eq!(client.fetch_one::<(i64,)>("SELECT count(*) FROM t", ()).await.unwrap(), (1,));
    });
}

#[test]
fn counts_by_transactions_lose_nothing_and_add_nothing_while_nodes_are_killed() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let known = url(&nodes, &format!("token={token}"));
    let (over, done, lost) = (AtomicBool::new(false), Mutex::new(0), Mutex::new(0));
    on(&lab, async || {
        let client = connect(&known).await;
        client.execute("INSERT INTO t VALUES (1, 0, 0)", ()).await.unwrap();
    });
    std::thread::scope(|scope| {
        let counter = || {
            on(&lab, async || {
                let client = connect(&known).await.timeout(Duration::from_secs(20));
                while !over.load(Ordering::Relaxed) {
                    match add_one(&client).await {
                        Ok(true) => *done.lock().unwrap() += 1,
                        Ok(false) => *lost.lock().unwrap() += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        };
        let counters: Vec<_> = (0..4).map(|_| scope.spawn(counter)).collect();
        // Whatever fails here, they end.
        let _over = Over(&over);
        for round in 0..4 {
            std::thread::sleep(Duration::from_millis(1500));
            let at = round % nodes.len();
            nodes[at].kill();
            std::thread::sleep(Duration::from_millis(700));
            nodes[at].start();
            eventually("all are back", SETTLE, || {
                let view = nodes[(at + 1) % 3].view()?;
                let online = view.servers.iter().filter(|s| s.status == "ONLINE").count();
                if online == 3 { Ok(()) } else { Err(format!("{online} are ONLINE")) }
            });
        }
        over.store(true, Ordering::Relaxed);
        counters.into_iter().for_each(|counter| counter.join().expect("no error"));
    });
    let (done, lost) = (done.into_inner().unwrap(), lost.into_inner().unwrap());
    println!("{done} transactions done, {lost} lost and told so, under 4 kills");
    let count = on(&lab, async || {
        // This one has seen nothing yet, and asks for all that anybody was told.
        let client = connect(&known).await.reading(Reading::Linearizable);
        client.fetch_one::<(i64,)>("SELECT number FROM t", ()).await.unwrap().0
    });
    assert_eq!(count, done, "each that was done counts once");
    assert!(done > 100, "{done} were done");
}
