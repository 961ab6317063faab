export * from "./wsredis.js";
export { default } from "./wsredis.js";
