import { existsSync } from "node:fs";

type Tool = "python" | "pip" | "compiler" | "cmake" | "jpeg";

const COMMANDS: Record<string, Record<Tool, string>> = {
  apt: {
    python: "sudo apt-get install -y python3 python3-pip",
    pip: "sudo apt-get install -y python3-pip",
    compiler: "sudo apt-get install -y g++ make",
    cmake: "sudo apt-get install -y cmake",
    jpeg: "sudo apt-get install -y libjpeg-dev",
  },
  dnf: {
    python: "sudo dnf install -y python3 python3-pip",
    pip: "sudo dnf install -y python3-pip",
    compiler: "sudo dnf install -y gcc-c++ make",
    cmake: "sudo dnf install -y cmake",
    jpeg: "sudo dnf install -y libjpeg-turbo-devel",
  },
  pacman: {
    python: "sudo pacman -S --needed python python-pip",
    pip: "sudo pacman -S --needed python-pip",
    compiler: "sudo pacman -S --needed gcc make",
    cmake: "sudo pacman -S --needed cmake",
    jpeg: "sudo pacman -S --needed libjpeg-turbo",
  },
  zypper: {
    python: "sudo zypper install -y python3 python3-pip",
    pip: "sudo zypper install -y python3-pip",
    compiler: "sudo zypper install -y gcc-c++ make",
    cmake: "sudo zypper install -y cmake",
    jpeg: "sudo zypper install -y libjpeg8-devel",
  },
  brew: {
    python: "brew install python",
    pip: "brew install python",
    compiler: "xcode-select --install",
    cmake: "brew install cmake",
    jpeg: "brew install jpeg-turbo",
  },
};

/** The command that installs a tool, or libjpeg-turbo's headers, with this machine's package manager. */
export function installCommand(tool: Tool): string {
  if (process.platform === "darwin") return COMMANDS.brew![tool];
  const manager = ["apt-get", "dnf", "pacman", "zypper"].find((each) => existsSync(`/usr/bin/${each}`)) ?? "apt-get";
  return COMMANDS[manager === "apt-get" ? "apt" : manager]![tool];
}
