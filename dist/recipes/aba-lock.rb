# A formula for Homebrew on Linux. It is not tested. Replace the address and the checksum of the source archive.
class AbaLock < Formula
  desc "Locks for shell scripts, which name the process in the way"
  homepage "https://aba-lock.example"
  url "https://aba-lock.example/aba-lock-0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "make" => :build
  depends_on "rust" => :build
  depends_on :linux

  def install
    # The man pages and the library name the directory that does not change with the version.
    system "make", "install", "PREFIX=#{HOMEBREW_PREFIX}", "DESTDIR=#{buildpath}/stage"
    prefix.install Dir["stage#{HOMEBREW_PREFIX}/*"]
  end

  test do
    ENV["ABA_LOCK_DIR"] = testpath.to_s
    assert_match "held", shell_output("#{bin}/aba-lock lock backup -- #{bin}/aba-lock status backup")
    system "bash", "-n", share/"aba-lock/aba-lock.bash"
  end
end
