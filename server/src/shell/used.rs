//! The node in use, and what is said when it is another one.

use quorate_core::NodeId;
use quorate_io::client::View;

/// The node that was in use when it was last looked.
pub(crate) struct Used {
    node: Option<NodeId>,
    name: String,
    /// It was said that there is none.
    without: bool,
}

impl Used {
    pub(crate) fn new(view: &View) -> Self {
        Self { node: view.using, name: name(view).unwrap_or_default(), without: false }
    }

    /// One line, if another node is in use than before, or none any more.
    pub(crate) fn follow(&mut self, view: &View) -> Option<String> {
        let Some(using) = view.using else {
            if self.without {
                return None;
            }
            self.without = true;
            let problems = view.problems();
            let why = if problems.is_empty() { "" } else { ": " };
            let gone = if self.name.is_empty() { "the node" } else { &self.name };
            return Some(format!("{gone} is gone; no other node answers yet{why}{problems}"));
        };
        let without = std::mem::take(&mut self.without);
        let now = name(view).unwrap_or_else(|| using.short());
        let before = std::mem::replace(&mut self.name, now.clone());
        let same = self.node.replace(using) == Some(using);
        match (same, without) {
            (true, false) => None,
            (true, true) => Some(format!("{now} is there again")),
            (false, _) if before.is_empty() => Some(format!("using {now} now")),
            (false, _) => Some(format!("{before} is gone; using {now} now")),
        }
    }
}

/// The name of the node in use.
pub(crate) fn name(view: &View) -> Option<String> {
    view.using.map(|using| view.layout.name_of(using))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_core::client::{Layout, LayoutServer};

    use super::*;

    fn view(using: Option<u8>) -> View {
        let server = |number: u8| LayoutServer {
            node: NodeId(u128::from(number)),
            name: format!("n{number}"),
            address: None,
            data_centers: Vec::new(),
            is_online: true,
        };
        let layout = Layout { servers: vec![server(1), server(2)], ..Layout::default() };
        let using = using.map(|number| NodeId(u128::from(number)));
        View { layout: Arc::new(layout), using, ..View::default() }
    }

    #[test]
    fn a_switch_is_told_once_with_both_names() {
        let mut used = Used::new(&view(Some(1)));
        assert_eq!(used.follow(&view(Some(1))), None);
        assert_eq!(used.follow(&view(Some(2))).as_deref(), Some("n1 is gone; using n2 now"));
        assert_eq!(used.follow(&view(Some(2))), None);
    }

    #[test]
    fn that_no_node_is_there_is_told_once_and_also_when_one_is_again() {
        let mut used = Used::new(&view(Some(1)));
        let said = used.follow(&view(None)).unwrap();
        assert!(said.starts_with("n1 is gone; no other"), "{said}");
        assert_eq!(used.follow(&view(None)), None);
        assert_eq!(used.follow(&view(Some(1))).as_deref(), Some("n1 is there again"));
        assert!(used.follow(&view(None)).is_some());
        assert_eq!(used.follow(&view(Some(2))).as_deref(), Some("n1 is gone; using n2 now"));
    }
}
