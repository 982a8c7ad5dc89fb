# An expression for Nix, to call with `pkgs.callPackage`. It is not tested.
{
  lib,
  rustPlatform,
}:

rustPlatform.buildRustPackage {
  pname = "aba-lock";
  version = "0.1.0";

  src = lib.cleanSource ../..;
  cargoLock.lockFile = ../../Cargo.lock;

  postPatch = ''
    patchShebangs tests/tools src/bin/aba-lock/link
  '';

  buildPhase = ''
    runHook preBuild
    make PREFIX=$out
    runHook postBuild
  '';

  # The tests need many tools and other users.
  doCheck = false;

  installPhase = ''
    runHook preInstall
    make install PREFIX=$out
    runHook postInstall
  '';

  meta = {
    description = "Locks for shell scripts, which name the process in the way";
    license = with lib.licenses; [ mit asl20 ];
    mainProgram = "aba-lock";
    platforms = lib.platforms.linux;
  };
}
