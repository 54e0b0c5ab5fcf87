import { UnsupportedPlatformError, WAYS_OUT } from "./errors.js";

/** A published file, pinned by its hash. */
export interface Wheel {
  /** Project name on the package index, e.g. `nvidia-cublas`. */
  readonly project: string;
  readonly version: string;
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** What to fetch for one platform. */
export interface PlatformWheels {
  /** Platform tags to ask pip for, most wanted first. */
  readonly tags: readonly string[];
  /** torch, and the libraries that its CPU library loads. */
  readonly cpu: readonly Wheel[];
  /** What its CUDA libraries load on top, and the headers of the CUDA addon; empty where it is published without CUDA. */
  readonly cuda: readonly Wheel[];
  readonly clangFormat: Wheel;
}

/** The libtorch that is fetched. The wheels are always those for Python 3.12: no Python runs them. */
export const LIBTORCH_VERSION = "2.11.0";
export const PYTHON_TAG = { version: "312", implementation: "cp", abi: "cp312" } as const;

/**
 * The pinned wheels for a platform.
 *
 * @throws {UnsupportedPlatformError} where libtorch is not published.
 */
export function wheelsFor(platform: string = process.platform, arch: string = process.arch): PlatformWheels {
  const wheels = PLATFORMS[`${platform}-${arch}`];
  if (wheels) return wheels;
  throw new UnsupportedPlatformError(
    `libtorch ${LIBTORCH_VERSION} is not published for ${platform} ${arch} (only for ${Object.keys(PLATFORMS).join(", ")}).\n` +
      `Bring one that was built for it:\n${WAYS_OUT}`,
  );
}

/** Of a platform's wheels, those whose headers the CUDA addon is built with. */
export function headerWheels({ cpu, cuda }: PlatformWheels): Wheel[] {
  return [...cpu, ...cuda].filter(({ project }) => /^nvidia-(cuda-(runtime|crt|cccl)|nccl-cu\d+)$/.test(project));
}

/** Of a platform's wheels, the one with the compiler of kernels; none where libtorch is published without CUDA. */
export function nvrtcWheels({ cuda }: PlatformWheels): Wheel[] {
  return cuda.filter(({ project }) => project === "nvidia-cuda-nvrtc");
}

/** The pinned wheel with this file name, on any platform. */
export function pinnedWheel(file: string): Wheel | null {
  const all = Object.values(PLATFORMS).flatMap((each) => [...each.cpu, ...each.cuda, each.clangFormat]);
  return all.find((each) => each.file === file) ?? null;
}

function wheel(file: string, megabytes: number, sha256: string): Wheel {
  const [name = "", version = ""] = file.split("-");
  return { project: name.replaceAll("_", "-"), version, file, bytes: megabytes * 1e6, sha256 };
}

// pip takes a wheel only if one of its tags is named: NVIDIA's wheels are built for many a glibc.
function manylinux(arch: string): string[] {
  const minors = Array.from({ length: 24 }, (_, index) => 28 - index);
  return [...minors.map((minor) => `manylinux_2_${minor}_${arch}`), `manylinux2014_${arch}`, `manylinux2010_${arch}`];
}

const PLATFORMS: Record<string, PlatformWheels> = {
  "linux-x64": {
    tags: manylinux("x86_64"),
    cpu: [
      wheel("torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl", 530.7,
        "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756"),
      wheel("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl", 10.7,
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"),
      wheel("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 2.2,
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"),
    ],
    cuda: [
      wheel("nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl", 423.1,
        "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171"),
      wheel("nvidia_cuda_cccl-13.0.85-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 3.1,
        "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649"),
      wheel("nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 0.1,
        "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4"),
      wheel("nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", 90.2,
        "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"),
      wheel("nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl", 366.1,
        "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf"),
      wheel("nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 214.1,
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"),
      wheel("nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 1.2,
        "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44"),
      wheel("nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl", 59.5,
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"),
      wheel("nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl", 200.9,
        "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112"),
      wheel("nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 145.9,
        "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b"),
      wheel("nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl", 169.9,
        "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd"),
      wheel("nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl", 196.5,
        "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42"),
      wheel("nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl", 40.7,
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b"),
      wheel("nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", 60.4,
        "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"),
      wheel("nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl", 0.1,
        "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4"),
    ],
    clangFormat: wheel("clang_format-19.1.7-py2.py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", 1.8,
      "f4906fb463dd2033032978f56962caab268c9428a384126b9400543eb667f11c"),
  },
  "linux-arm64": {
    tags: manylinux("aarch64"),
    cpu: [
      wheel("torch-2.11.0-cp312-cp312-manylinux_2_28_aarch64.whl", 419.7,
        "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f"),
      wheel("nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl", 10.3,
        "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151"),
      wheel("nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 2.3,
        "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55"),
    ],
    cuda: [
      wheel("nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_aarch64.whl", 542.9,
        "c86fc7f7ae36d7528288c5d88098edcb7b02c633d262e7ddbb86b0ad91be5df2"),
      wheel("nvidia_cuda_cccl-13.0.85-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 3.1,
        "6f0203e29fed809ee2b7fe9b1344df66ecab990c37d6a2e0e189b26d6c97ed7c"),
      wheel("nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 0.1,
        "ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003"),
      wheel("nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 43.0,
        "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b"),
      wheel("nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_aarch64.whl", 433.8,
        "6ed29ffaee1176c612daf442e4dd6cfeb6a0caa43ddcbeb59da94953030b1be4"),
      wheel("nvidia_cufft-12.0.0.61-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 214.1,
        "2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5"),
      wheel("nvidia_cufile-1.15.1.6-py3-none-manylinux_2_27_aarch64.whl", 1.1,
        "bdc0deedc61f548bddf7733bdc216456c2fdb101d020e1ab4b88d232d5e2f6d1"),
      wheel("nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_aarch64.whl", 62.0,
        "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a"),
      wheel("nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_aarch64.whl", 223.5,
        "02c2457eaa9e39de20f880f4bd8820e6a1cfb9f9a34f820eb12a155aa5bc92d2"),
      wheel("nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 162.2,
        "80bcc4662f23f1054ee334a15c72b8940402975e0eab63178fc7e670aa59472c"),
      wheel("nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_aarch64.whl", 220.8,
        "400c6ed1cf6780fc6efedd64ec9f1345871767e6a1a0a552a1ea0578117ea77c"),
      wheel("nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_aarch64.whl", 196.6,
        "01c873ba1626b54caa12272ed228dc5b2781545e0ae8ba3f432a8ef1c6d78643"),
      wheel("nvidia_nvjitlink-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 38.8,
        "e931536ccc7d467a98ba1d8b89ff7fa7f1fa3b13f2b0069118cd7f47bff07d0c"),
      wheel("nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 60.2,
        "6dc2a197f38e5d0376ad52cd1a2a3617d3cdc150fd5966f4aee9bcebb1d68fe9"),
      wheel("nvidia_nvtx-13.0.85-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl", 0.1,
        "cb7780edb6b14107373c835bf8b72e7a178bac7367e23da7acb108f973f157a6"),
    ],
    clangFormat: wheel("clang_format-19.1.7-py2.py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", 1.7,
      "dac394c83a9233ab6707f66e1cdbd950f8b014b58604142a5b6f7998bf0bcc8c"),
  },
  "darwin-arm64": {
    tags: ["macosx_11_0_arm64"],
    cpu: [
      wheel("torch-2.11.0-cp312-cp312-macosx_11_0_arm64.whl", 80.6,
        "4b5866312ee6e52ea625cd211dcb97d6a2cdc1131a5f15cc0d87eec948f6dd34"),
    ],
    cuda: [],
    clangFormat: wheel("clang_format-19.1.7-py2.py3-none-macosx_11_0_arm64.whl", 1.4,
      "776f89c7b056c498c0e256485bc031cbf514aaebe71e929ed54e50c478524b65"),
  },
  "win32-x64": {
    tags: ["win_amd64"],
    cpu: [
      wheel("torch-2.11.0-cp312-cp312-win_amd64.whl", 114.6,
        "fbf39280699d1b869f55eac536deceaa1b60bd6788ba74f399cc67e60a5fab10"),
    ],
    cuda: [],
    clangFormat: wheel("clang_format-19.1.7-py2.py3-none-win_amd64.whl", 1.5,
      "3e3c75fbdf8827bbb7277226b3057fc3785dabe7284d3a9d15fceb250f68f529"),
  },
};
