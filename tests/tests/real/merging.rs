//! Two clusters of one name meet.

use quorate_tests::{Lab, Node};

#[test]
fn two_empty_clusters_of_one_name_become_one() {
    let lab = Lab::wired(4);
    lab.cut(&[3, 4]);
    let mut nodes = lab.nodes(4);
    nodes.iter_mut().for_each(Node::start);
    let (one, other) = (lab.one_cluster(&nodes[..2]), lab.one_cluster(&nodes[2..]));
    assert_ne!(one.cluster, other.cluster);
    lab.heal();
    let all = lab.one_cluster(&nodes);
    assert!(all.cluster == one.cluster || all.cluster == other.cluster, "one of the two goes on");
    let dissolved = if all.cluster == one.cluster { &nodes[2..] } else { &nodes[..2] };
    for node in dissolved {
        let id = &all.server(&node.name).expect("a server").id;
        let before = if all.cluster == one.cluster { &other } else { &one };
        assert_ne!(Some(id), before.server(&node.name).map(|s| &s.id), "with a new id");
        let aside =
            std::fs::read_dir(node.data.join("backup/clusters")).expect("what it held is kept");
        assert_eq!(aside.count(), 1);
    }
}
