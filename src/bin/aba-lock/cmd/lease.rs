//! `lease`: becomes the keeper, which parses the arguments.

use crate::args::LeaseArgs;
use aba_lock::error::Error;
use aba_lock::lock::keeper::Keeper;

pub(crate) fn run(args: LeaseArgs) -> Result<i32, Error> {
    let mut words = vec!["lease".into()];
    words.extend(args.words);
    Err(Keeper::find()?.exec(words, &[]).into())
}
