mod rust;
mod suite;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("{}", rust::answer(&args[1], &args[2]).unwrap());
}
