//! Short storms over whole cells; `cargo xtask chaos` has long ones. `MAINSTAY_SEED` chooses another plan.

use cell_tests::Dice;
use cell_tests::chaos::{self, Layout, Storm};

fn storm(layout: Layout) {
    let seed = Dice::seed_of_test(1);
    println!("{}", chaos::run(&Storm { layout, seed, span: None }));
}

#[test]
fn storms_over_fake_nodes_lose_nothing_and_leave_nothing() {
    storm(Layout::Together);
}

#[test]
fn storms_over_roles_apart_lose_nothing_and_leave_nothing() {
    storm(Layout::Apart);
}

#[test]
fn storms_around_real_guests_lose_nothing_and_leave_nothing() {
    storm(Layout::Guests);
}
