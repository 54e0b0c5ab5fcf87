// @ts-check
// Plain JavaScript, because scripts/bootstrap.mjs needs it before anything is compiled or installed.

const OLDEST = [20, 19];

/** Whether this package does not run with a version of Node.js, such as "18.20.8". @param {string} version */
export function isTooOld(version) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  return major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]);
}

/** What to tell the user of such a version. @param {string} version */
export function tooOld(version) {
  return `Node ${version} is too old: ${OLDEST.join(".")} or newer is needed; get it from https://nodejs.org, or: nvm install 22`;
}
