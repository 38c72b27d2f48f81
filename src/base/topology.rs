//! The machine's memory nodes (NUMA) as a value: how many there are, which of them each processor is at, and how
//! the pages of an instance name a node.
//!
//! A node is an index here, 0 to `MAX_NODES - 1`, in the order of the system's numbers, which may have gaps. Whoever
//! reads the machine fills the value; tests make one up.
#![forbid(unsafe_code)]

/// Nodes that an instance tells apart. On a machine with more, those that follow share the memory of these.
pub(crate) const MAX_NODES: usize = 8;
/// Processors whose node is known; those above count as being at node 0.
const MAX_CPUS: usize = 1024;
/// Bits of a zone's number that name the instance; those above name the node.
pub(crate) const NODE_SHIFT: u32 = 10;

// A page's word has 16 bits for the zone.
const _: () = assert!(MAX_NODES <= 1 << (u16::BITS - NODE_SHIFT));

/// What pages name the zone of an instance's node by. Of node 0 it is the instance's own number.
pub(crate) const fn zone_number(instance: u16, node: usize) -> u16 {
    instance | (node as u16) << NODE_SHIFT
}

/// The instance that a zone belongs to.
#[inline]
pub(crate) const fn instance_of(zone: u16) -> u16 {
    zone & ((1 << NODE_SHIFT) - 1)
}

/// The node of a zone.
#[inline]
pub(crate) const fn node_of(zone: u16) -> usize {
    (zone >> NODE_SHIFT) as usize
}

/// The nodes, and the processors at them.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Topology {
    /// Nodes that were added, those beyond `MAX_NODES` among them.
    added: u32,
    /// What the system calls them.
    ids: [u16; MAX_NODES],
    node_of_cpu: [u8; MAX_CPUS],
}

impl Topology {
    /// A machine with one node, which is also one that says nothing of nodes.
    pub(crate) const ONE: Self = Self { added: 0, ids: [0; MAX_NODES], node_of_cpu: [0; MAX_CPUS] };

    /// Adds a node that the system calls `id`. Returns its index; the index of another one where there are too many.
    pub(crate) fn add_node(&mut self, id: u16) -> usize {
        let node = self.added as usize;
        self.added += 1;
        if let Some(place) = self.ids.get_mut(node) {
            *place = id;
        }
        node % MAX_NODES
    }

    /// Notes that a processor is at a node.
    pub(crate) fn put_cpu(&mut self, cpu: usize, node: usize) {
        if let Some(place) = self.node_of_cpu.get_mut(cpu) {
            *place = node as u8;
        }
    }

    /// Nodes that an instance tells apart, at least 1.
    pub(crate) fn nodes(&self) -> usize {
        (self.added as usize).clamp(1, MAX_NODES)
    }

    /// What the system calls a node.
    pub(crate) fn id(&self, node: usize) -> u16 {
        self.ids.get(node).copied().unwrap_or(0)
    }

    /// The node that a processor is at.
    pub(crate) fn node_of(&self, cpu: usize) -> usize {
        self.node_of_cpu.get(cpu).copied().unwrap_or(0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_names_instance_and_node() {
        for (instance, node) in [(1, 0), (1, 7), (1023, 0), (1023, 7), (500, 3)] {
            let zone = zone_number(instance, node);
            assert_eq!((instance_of(zone), node_of(zone)), (instance, node));
        }
        assert_eq!(zone_number(77, 0), 77);
    }

    #[test]
    fn processors_are_at_nodes_and_numbers_have_gaps() {
        let mut topology = Topology::ONE;
        assert_eq!((topology.nodes(), topology.node_of(5), topology.node_of(1 << 20)), (1, 0, 0));
        for id in [0, 8, 250] {
            let node = topology.add_node(id);
            topology.put_cpu(10 + node, node);
        }
        topology.put_cpu(1 << 20, 2);
        assert_eq!((topology.nodes(), topology.id(1), topology.id(2)), (3, 8, 250));
        assert_eq!([9, 10, 11, 12].map(|cpu| topology.node_of(cpu)), [0, 0, 1, 2]);
    }

    #[test]
    fn nodes_beyond_the_most_share() {
        let mut topology = Topology::ONE;
        let nodes: Vec<_> = (0..11).map(|id| topology.add_node(id)).collect();
        assert_eq!(nodes, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]);
        assert_eq!((topology.nodes(), topology.id(2), topology.id(10)), (MAX_NODES, 2, 0));
    }
}
