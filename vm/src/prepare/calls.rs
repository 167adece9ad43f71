//! Who calls whom, and what therefore need not be counted.
//!
//! Depth and time are without bound only where a function may be called again while it runs. So:
//!
//! - a function's frame is *counted* if a cycle of calls leads through it, or if the frames below that are not counted
//!   would come to more than [`UNCOUNTED_SLOTS`];
//! - its fuel is *checked*, when it is entered and when it is left, if a cycle leads through it, or if more than
//!   [`UNCHECKED`] could be burned in it without any other check;
//! - if more than [`LONG`] could be burned in it, it checks behind calls as well, so that not many callees who do not check
//!   come together;
//! - it is *free* if it always burns the same and nobody but direct calls gets to it: its callers pay for it with their
//!   own instructions.
//!
//! Indirect calls may lead to every function of the right type in an element segment.

use std::collections::HashMap;

use wasmparser::{ElementItems, FuncType, Operator};

use super::source::Source;
use crate::{
    error::Error,
    fuel::{ACCOUNTED, FRAME_SLOTS, LONG, NAN_SLOTS, UNCHECKED, UNCOUNTED_SLOTS},
};

/// What is known of one function, imported or defined.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Role {
    /// Slots on the depth account while it runs.
    pub(crate) frame: Option<u32>,
    /// Whether its fuel is checked when it is entered and left.
    pub(crate) checked: bool,
    /// Whether fuel is checked behind calls in it.
    pub(crate) long: bool,
    /// Whether its callers pay for it.
    pub(crate) free: bool,
    /// Whether it may burn fuel, its callers' for it included, without a check.
    pub(crate) burns: bool,
}

/// Finds each function's role, and makes callers pay for the free ones.
///
/// # Errors
///
/// None for a module that has been validated.
pub(crate) fn assign(source: &mut Source<'_>) -> Result<Vec<Role>, Error> {
    let graph = Graph::of(source)?;
    let imported = source.imports.len();
    let mut roles = vec![Role::default(); source.functions.len()];
    let mut summaries = vec![Summary::default(); graph.edges.len()];
    // Callees come before their callers, except on a cycle.
    for component in graph.components() {
        let cyclic = component.len() > 1 || graph.edges[component[0]].contains(&component[0]);
        let mut uncounted = 0;
        for &node in &component {
            let below = graph.edges[node].iter().map(|&callee| summaries[callee].uncounted).max();
            uncounted = uncounted.max(below.unwrap_or(0));
        }
        // Types before functions, which have to know what else the types on a cycle with them lead to. Functions on a cycle are
        // checked, so that a type need not know more of those.
        let (functions, types): (Vec<_>, Vec<_>) = component.into_iter().partition(|node| *node < roles.len());
        for node in types {
            let callees = graph.edges[node].iter().map(|&callee| summaries[callee].unchecked);
            summaries[node] = Summary { uncounted, unchecked: callees.max().unwrap_or(0), free: None };
        }
        for node in functions {
            summaries[node].uncounted = uncounted;
            let Some(defined) = node.checked_sub(imported) else { continue };
            let Some((_, shape)) = source.bodies.get_mut(defined) else { continue };

            let added = FRAME_SLOTS + if shape.arithmetic { NAN_SLOTS } else { 0 };
            let slots = shape.locals.saturating_add(shape.height).saturating_add(added);
            let role = &mut roles[node];
            if cyclic || uncounted.saturating_add(slots) > UNCOUNTED_SLOTS {
                role.frame = Some(slots);
            } else {
                summaries[node].uncounted += slots;
            }
            if role.frame.is_some() {
                shape.units[0].1 += ACCOUNTED;
            }
            for &(callee, unit) in &shape.sites {
                shape.units[unit as usize].1 += summaries[callee as usize].free.unwrap_or(0);
            }
            let own: u64 = shape.units.iter().map(|(_, fuel)| fuel).sum();
            let direct = shape.sites.iter().map(|(callee, _)| *callee as usize);
            let callees = direct.chain(shape.indirect.iter().map(|ty| graph.types[*ty as usize]));
            let called: u64 = callees.map(|callee| summaries[callee].unchecked).sum();
            role.checked = cyclic || own + called > UNCHECKED;
            if role.checked && role.frame.is_none() {
                shape.units[0].1 += ACCOUNTED;
            }
            role.long = own + called > LONG;
            let steady = shape.units.iter().skip(1).all(|(_, fuel)| *fuel == 0)
                && shape.heads.is_empty()
                && shape.counted.is_empty();
            let direct = shape.indirect.is_empty() && !shape.helped && !graph.taken[node];
            let all_free = shape.sites.iter().all(|(callee, _)| summaries[*callee as usize].free.is_some());
            role.burns = own + called > 0 && !role.checked;
            role.free = steady && direct && all_free && !role.checked && role.frame.is_none();
            let summary = &mut summaries[node];
            summary.free = role.free.then_some(own);
            summary.unchecked = if role.checked || role.free { 0 } else { own + called };
        }
    }
    Ok(roles)
}

/// What callers need to know of a function.
#[derive(Clone, Copy, Debug, Default)]
struct Summary {
    /// Most slots of uncounted frames, its own included, that may lie above one another when it is called.
    uncounted: u32,
    /// Most fuel that it may burn without a check; of a type, any function of it.
    unchecked: u64,
    /// Fuel that it always burns, if its callers are to pay for it.
    free: Option<u64>,
}

/// Nodes are functions, and behind them types: an indirect call leads to a type, and from there to functions.
#[derive(Debug)]
struct Graph {
    edges: Vec<Vec<usize>>,
    /// Of each type: its node.
    types: Vec<usize>,
    /// Of each function: whether others than direct calls get to it.
    taken: Vec<bool>,
}

impl Graph {
    fn of(source: &Source<'_>) -> Result<Self, Error> {
        let functions = source.functions.len();
        let mut kinds: HashMap<&FuncType, usize> = HashMap::new();
        let types: Vec<usize> = source
            .types
            .iter()
            .map(|ty| {
                let next = functions + kinds.len();
                *kinds.entry(ty).or_insert(next)
            })
            .collect();
        let mut edges = vec![Vec::new(); functions + kinds.len()];
        let mut taken = vec![false; functions];
        for (index, (_, shape)) in (source.imports.len()..).zip(&source.bodies) {
            let direct = shape.sites.iter().map(|(callee, _)| *callee as usize);
            let indirect = shape.indirect.iter().map(|ty| types[*ty as usize]);
            edges[index] = direct.chain(indirect).collect();
            edges[index].sort_unstable();
            edges[index].dedup();
        }
        source.exports.iter().filter(|export| export.kind == wasmparser::ExternalKind::Func).for_each(|export| {
            taken[export.index as usize] = true;
        });
        source.start.iter().for_each(|start| taken[*start as usize] = true);
        for function in addressed(source)? {
            taken[function as usize] = true;
            edges[types[source.functions[function as usize] as usize]].push(function as usize);
        }
        Ok(Self { edges, types, taken })
    }

    /// Strongly connected components, callees first: Tarjan's algorithm with a stack of its own.
    fn components(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let nodes = self.edges.len();
        let (mut number, mut low) = (vec![NEW; nodes], vec![0; nodes]);
        let mut open = vec![false; nodes];
        let (mut path, mut pending, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        for root in 0..nodes {
            if number[root] != NEW {
                continue;
            }
            pending.push((root, 0));
            while let Some((node, edge)) = pending.pop() {
                if edge == 0 {
                    (number[node], low[node]) = (next, next);
                    next += 1;
                    open[node] = true;
                    path.push(node);
                } else {
                    // Back from the callee before this one.
                    let callee = self.edges[node][edge - 1];
                    if open[callee] {
                        low[node] = low[node].min(low[callee]);
                    }
                }
                match self.edges[node].get(edge) {
                    Some(&callee) => {
                        pending.push((node, edge + 1));
                        if number[callee] == NEW {
                            pending.push((callee, 0));
                        }
                    }
                    None if low[node] == number[node] => {
                        let begin = path.iter().rposition(|&n| n == node).expect("a component's root is on the path");
                        let component = path.split_off(begin);
                        component.iter().for_each(|&n| open[n] = false);
                        found.push(component);
                    }
                    None => {}
                }
            }
        }
        found
    }
}

/// Functions in element segments; their order and number do not matter.
fn addressed(source: &Source<'_>) -> Result<Vec<u32>, Error> {
    let mut functions = Vec::new();
    for element in source.elements.clone().into_iter().flatten() {
        match element?.items {
            ElementItems::Functions(indices) => {
                for index in indices {
                    functions.push(index?);
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    for operator in expression?.get_operators_reader() {
                        if let Operator::RefFunc { function_index } = operator? {
                            functions.push(function_index);
                        }
                    }
                }
            }
        }
    }
    functions.sort_unstable();
    functions.dedup();
    Ok(functions)
}
