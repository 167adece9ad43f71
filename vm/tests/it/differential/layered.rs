//! The same programs with the WASI layer: all their imports go through it, and a second memory, the layer's, lies beside theirs.

use std::convert::Infallible;

use wasm_encoder::{
    EntityType, ImportSection, Module, TypeSection, ValType,
    reencode::{Error, Reencode, utils},
};

/// A program that imports a function of WASI, too, so that the layer serves everything.
pub(crate) fn layered(program: &[u8]) -> Vec<u8> {
    let mut written = Module::new();
    Layered::default()
        .parse_core_module(&mut written, wasmparser::Parser::new(0), program)
        .expect("the generated program is valid");
    written.finish()
}

#[derive(Default)]
struct Layered {
    types: u32,
    imports: u32,
}

impl Reencode for Layered {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        Ok(function + u32::from(function >= self.imports))
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        self.types = types.len();
        types.ty().function([], [ValType::I32]);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        self.imports = section.count();
        utils::parse_import_section(self, imports, section)?;
        imports.import("wasi_snapshot_preview1", "sched_yield", EntityType::Function(self.types));
        Ok(())
    }
}
