import "./wsredis.js";

export const WSRedis = globalThis.WSRedis;
export default WSRedis;
